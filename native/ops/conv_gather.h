// Runs one pass (conv_pass.h) over all tiles on all threads: image block → tile → channel block → outputs
// (PERFORMANCE, CPU design 3). The sparse and the dense kernels differ only in `call`.
#pragma once
#include <algorithm>
#include <cstdint>

#include "cpu/threads.h"
#include "ops/conv_pass.h"
#include "ops/conv_scratch.h"
#include "ops/conv_tiling.h"

namespace rp {

// One call of a gather kernel: a tile, a block of input channels, a range of outputs.
struct GatherPlace {
  const char* x;                           // tile's first position, first channel of the block
  char* y;                                 // tile's first position, first output of the range
  int64_t x_row, y_row, y_col, y_channel;  // bytes
  float* partial;
  int row, col, height, width;
  int channel_block, output, outputs;
  bool first, last;
};

struct GatherRun {
  const ConvPass& pass;
  const Tiling& tiling;
  const TileChoice& choice;
  int output_group;  // outputs are split between threads at multiples of it
  const float* x;
  float* y;
  int blocks;
};

// Bytes of partial sums that one thread needs.
inline int64_t gather_scratch(const ConvPass& pass, const Tiling& tiling, const TileChoice& choice) {
  return choice.channels >= pass.inputs() ? 0 : int64_t{64} * tiling.largest() * pass.outputs();
}

// Lines of channels [begin, end) of a tile; strides in floats.
struct TileLines {
  int begin, end;
  int64_t channel, row, col;
};

// Into L2.
inline void prefetch_lines(const float* tile, const TileLines& lines, const TileItem& item) {
  for (int h = 0; h < item.height; h++) {
    for (int c = lines.begin; c < lines.end; c++) {
      const float* line = tile + h * lines.row + c * lines.channel;
      for (int w = 0; w < item.width; w++) __builtin_prefetch(line + w * lines.col, 0, 2);
    }
  }
}

template <class Call>
void run_gather(const GatherRun& run, ThreadTeam& team, ConvScratch& scratch, void (*stream_fence)(),
                const Call& call) {
  const ConvPass& pass = run.pass;
  const Layout &lx = pass.x, &ly = pass.y;
  const int channel_blocks = (pass.inputs() + run.choice.channels - 1) / run.choice.channels;
  const int64_t items = run.tiling.items(run.blocks);
  const int64_t x_row = 4 * (run.choice.across_blocks ? lx.block_stride : lx.row_stride * pass.x_step);
  const int64_t y_row = 4 * (run.choice.across_blocks ? ly.block_stride : ly.row_stride * pass.y_step);
  const int64_t x_col = int64_t{kImagesPerBlock} * pass.x_step;
  const auto x_of = [&](const TileItem& tile) {
    return run.x + lx.at(tile.block, 0, tile.row * pass.x_step, tile.col * pass.x_step);
  };

  // Few tiles: outputs are split as well. Every value is still computed by one thread in one order.
  const int groups = (pass.outputs() + run.output_group - 1) / run.output_group;
  int64_t parts = 1;
  while (items * parts < 4 * team.size() && team.size() > 1 && parts * 4 <= groups) parts *= 2;

  team.parallel_range(items * parts, [&](int64_t begin, int64_t end, int member) {
    GatherPlace place;
    place.x_row = x_row;
    place.y_row = y_row;
    place.y_col = int64_t{64} * pass.y_step;
    place.y_channel = ly.channel_stride * 4;
    place.partial = scratch.member(member);
    for (int64_t index = begin; index < end; index++) {
      const int64_t part = index % parts;
      const TileItem tile = run.tiling.item(index / parts, run.blocks);
      place.output = std::min<int>(pass.outputs(), groups * part / parts * run.output_group);
      place.outputs =
          std::min<int>(pass.outputs(), groups * (part + 1) / parts * run.output_group) - place.output;
      place.row = tile.row;
      place.col = tile.col;
      place.height = tile.height;
      place.width = tile.width;
      const char* x = reinterpret_cast<const char*>(x_of(tile));
      place.y =
          reinterpret_cast<char*>(run.y + ly.at(tile.block, place.output, tile.row * pass.y_step + pass.y_row,
                                                tile.col * pass.y_step + pass.y_col));
      const bool prefetch = run.choice.prefetch && index + parts < end;
      const TileItem next = prefetch ? run.tiling.item(index / parts + 1, run.blocks) : tile;
      const float* next_x = x_of(next);
      for (int b = 0; b < channel_blocks; b++) {
        const int64_t channel = int64_t{b} * run.choice.channels;
        place.channel_block = b;
        place.first = b == 0;
        place.last = b == channel_blocks - 1;
        place.x = x + channel * lx.channel_stride * 4;
        if (prefetch) {
          const int end_channel = std::min<int>(channel + run.choice.channels, pass.inputs());
          prefetch_lines(next_x,
                         {static_cast<int>(channel), end_channel, lx.channel_stride, x_row / 4, x_col}, next);
        }
        call(place);
      }
    }
    if (run.choice.stream) stream_fence();
  });
}

}  // namespace rp
