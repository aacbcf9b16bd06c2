// Runs one pass (conv_pass.h) over all tiles on all threads: image block → tile → channel block → outputs
// (PERFORMANCE, CPU design 3). The sparse and the dense kernels differ only in `call`.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/threads.h"
#include "ops/conv_pass.h"
#include "ops/conv_scratch.h"
#include "ops/conv_tiling.h"
#include "ops/gather_flags.h"

namespace rp {

// One call of a gather kernel: a tile, a block of input channels, a range of outputs.
struct GatherPlace {
  const char* x;                           // tile's first position, first channel of the block
  char* y;                                 // tile's first position, first output of the range
  int64_t x_row, y_row, y_col, y_channel;  // bytes
  float* partial;
  PrefetchLines next;
  TileSums sums;
  int row, col, height, width;
  int channel_block, output, outputs;
  bool first, last;
};

struct GatherRun {
  const ConvPass& pass;
  const Tiling& tiling;
  const TileChoice& choice;
  int output_group;                   // outputs are split between threads at multiples of it
  const std::vector<int32_t>& lines;  // prefetch_offsets
  const float* x;
  float* y;
  int blocks;
  const ConvSums* sums;  // null: not wanted
};

// Bytes of partial sums that one thread needs.
inline int64_t gather_scratch(const ConvPass& pass, const Tiling& tiling, const TileChoice& choice) {
  return choice.channels >= pass.inputs() ? 0 : int64_t{64} * tiling.largest() * pass.outputs();
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
  const auto x_of = [&](const TileItem& tile) {
    return run.x + lx.at(tile.block, 0, tile.row * pass.x_step, tile.col * pass.x_step);
  };

  // Images of the last block.
  alignas(64) float lanes[kImagesPerBlock];
  const int last_images = run.sums ? run.sums->images - (run.blocks - 1) * kImagesPerBlock : kImagesPerBlock;
  for (int i = 0; i < kImagesPerBlock; i++) lanes[i] = i < last_images ? 1.0f : 0.0f;

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
      if (run.sums) {
        place.sums.sums = run.sums->sums + index / parts * 2 * pass.outputs() + place.output;
        place.sums.stride = pass.outputs();
        const int last_block = tile.block + (run.choice.across_blocks ? tile.height : 1) - 1;
        const bool masked = last_images < kImagesPerBlock && last_block == run.blocks - 1;
        place.sums.lanes = masked ? lanes : nullptr;
        place.sums.masked_row = masked && run.choice.across_blocks ? tile.height - 1 : 0;
      }
      const char* x = reinterpret_cast<const char*>(x_of(tile));
      place.y =
          reinterpret_cast<char*>(run.y + ly.at(tile.block, place.output, tile.row * pass.y_step + pass.y_row,
                                                tile.col * pass.y_step + pass.y_col));
      const bool prefetch = run.choice.prefetch && index + parts < end;
      const char* next =
          prefetch ? reinterpret_cast<const char*>(x_of(run.tiling.item(index / parts + 1, run.blocks)))
                   : nullptr;
      for (int b = 0; b < channel_blocks; b++) {
        const int64_t channel = int64_t{b} * run.choice.channels;
        place.channel_block = b;
        place.first = b == 0;
        place.last = b == channel_blocks - 1;
        place.x = x + channel * lx.channel_stride * 4;
        if (prefetch) {
          place.next = {next + channel * lx.channel_stride * 4, run.lines.data(),
                        static_cast<int>(run.lines.size()),
                        std::min<int>(run.choice.channels, pass.inputs() - channel), lx.channel_stride * 4};
        } else {
          place.next = {};
        }
        call(place);
      }
    }
    if (run.choice.stream) stream_fence();
  });
}

}  // namespace rp
