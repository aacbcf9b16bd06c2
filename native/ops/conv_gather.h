// Runs the passes of a convolution's forward or dgrad (conv_pass.h) over all tiles on all threads: image
// block → pass → tile → channel block → outputs (PERFORMANCE, CPU design 3). The sparse and the dense kernels
// differ only in `call`.
#pragma once
#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "cpu/threads.h"
#include "ops/conv_fetch.h"
#include "ops/conv_pass.h"
#include "ops/conv_scratch.h"
#include "ops/conv_tiling.h"
#include "ops/gather_flags.h"
#include "ops/row_work.h"

namespace rp {

// A pass and how it is cut. Where dgrad has several, all run on an image block before the next one, so that
// its dy comes from memory once.
struct GatherPhase {
  ConvPass pass;
  Tiling tiling;
  TileFetch fetch;

  explicit GatherPhase(ConvPass p) : pass(std::move(p)) {}
  void cut(const TileChoice& choice, const HasTile& has) {
    tiling = Tiling(pass.rows, pass.cols, choice, has);
    fetch = TileFetch(pass, choice);
  }
  int64_t bytes() const { return tiling.bytes() + fetch.bytes(); }
  // Of partial sums that one thread needs.
  int64_t scratch(const TileChoice& choice) const {
    return choice.channels >= pass.inputs() ? 0 : int64_t{64} * tiling.largest() * pass.outputs();
  }
};

// One call of a gather kernel: a tile, a block of input channels, a range of outputs.
struct GatherPlace {
  const char* x;                           // tile's first position, first channel of the block
  char* y;                                 // tile's first position, first output of the range
  int64_t x_row, y_row, y_col, y_channel;  // bytes
  float* partial;
  PrefetchLines next[1 + 2 * RowWork::kMostSources];
  int next_count;
  TileSums sums;
  int phase;
  int row, col, height, width;
  int channel_block, output, outputs;
  bool first, last;
};

struct GatherRun {
  const GatherPhase* phases;  // cut by the same choice; their x and y are the same tensors
  int phase_count;
  const TileChoice& choice;
  int output_group;  // outputs are split between threads at multiples of it
  const float* x;
  float* y;
  int blocks;
  const ConvSums* sums;  // null: not wanted; of a single phase only
  ConvCompanions beside = {};

  // Not where the rows written are read again at once.
  bool streams() const { return choice.stream && beside.after == nullptr; }
};

template <class Call>
void run_gather(const GatherRun& run, ThreadTeam& team, ConvScratch& scratch, void (*stream_fence)(),
                const Call& call) {
  const ConvPass& first = run.phases[0].pass;
  const Layout &lx = first.x, &ly = first.y;
  const int channel_blocks = (first.inputs() + run.choice.channels - 1) / run.choice.channels;
  const int64_t groups_of_blocks = run.phases[0].tiling.groups(run.blocks);
  int64_t tiles = 0;  // of all phases, of one group of blocks
  for (int p = 0; p < run.phase_count; p++) tiles += run.phases[p].tiling.tiles();
  const int64_t items = groups_of_blocks * tiles;
  const int64_t x_row = 4 * (run.choice.across_blocks ? lx.block_stride : lx.row_stride * first.x_step);
  const int64_t y_row = 4 * (run.choice.across_blocks ? ly.block_stride : ly.row_stride * first.y_step);
  const auto phase_of = [&](int64_t item, TileItem* tile) {
    const int64_t group = item / tiles;
    int64_t left = item % tiles;
    int p = 0;
    for (; left >= run.phases[p].tiling.tiles(); p++) left -= run.phases[p].tiling.tiles();
    *tile = run.phases[p].tiling.item(group * run.phases[p].tiling.tiles() + left, run.blocks);
    return p;
  };
  const auto x_of = [&](const TileItem& tile) {
    return reinterpret_cast<const char*>(
        run.x + lx.at(tile.block, 0, tile.row * first.x_step, tile.col * first.x_step));
  };

  // Items of the work before the pass that this tile reads, and of the work after it that it completes.
  const auto read_by = [&](const TileItem& tile, int phase) {
    const RowWork& work = *run.beside.before;
    if (run.choice.across_blocks) return (tile.block + tile.height) * work.per_block();
    const int rows = (tile.row + tile.height - 1) * first.x_step + run.phases[phase].fetch.last_row() + 1;
    return tile.block * work.per_block() + work.reaching(rows);
  };
  const auto written = [&](int64_t item, const TileItem& tile, int phase) -> int64_t {
    const RowWork& work = *run.beside.after;
    if ((item + 1) % tiles == 0)
      return (tile.block + (run.choice.across_blocks ? tile.height : 1)) * work.per_block();
    const ConvPass& pass = run.phases[phase].pass;
    // The last strip of the last phase completes rows.
    if (run.choice.across_blocks || phase + 1 < run.phase_count || tile.col + tile.width < pass.cols ||
        tile.in_rows + 1 < tile.of_rows)
      return 0;
    return tile.block * work.per_block() +
           work.within((tile.row + tile.height - 1) * pass.y_step + pass.y_row + 1);
  };

  // Images of the last block.
  alignas(64) float lanes[kImagesPerBlock];
  const int last_images = run.sums ? run.sums->images - (run.blocks - 1) * kImagesPerBlock : kImagesPerBlock;
  for (int i = 0; i < kImagesPerBlock; i++) lanes[i] = i < last_images ? 1.0f : 0.0f;

  // Few tiles: outputs are split as well. Every value is still computed by one thread in one order.
  const int groups = (first.outputs() + run.output_group - 1) / run.output_group;
  int64_t parts = 1;
  while (items * parts < 4 * team.size() && team.size() > 1 && parts * 4 <= groups) parts *= 2;

  const RowWork *before = run.beside.before, *after = run.beside.after;
  const bool takes_turns = parts == 1 && groups_of_blocks % team.size() == 0;
  const auto walk = [&](int64_t begin, int64_t end, int member, RowProgress& makes, RowProgress& reads) {
    GatherPlace place;
    place.x_row = x_row;
    place.y_row = y_row;
    place.y_col = int64_t{64} * first.y_step;
    place.y_channel = ly.channel_stride * 4;
    place.partial = scratch.member(member);
    for (int64_t index = begin; index < end; index++) {
      const int64_t part = index % parts;
      TileItem tile, next;
      place.phase = phase_of(index / parts, &tile);
      const ConvPass& pass = run.phases[place.phase].pass;
      if (takes_turns && before != nullptr) makes.advance(read_by(tile, place.phase));
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
        place.sums.images = last_images;
      }
      const char* x = x_of(tile);
      place.y =
          reinterpret_cast<char*>(run.y + ly.at(tile.block, place.output, tile.row * pass.y_step + pass.y_row,
                                                tile.col * pass.y_step + pass.y_col));
      // The next tile, by rows the first of the next rows.
      const int64_t next_item = index / parts + tile.of_rows - tile.in_rows;
      const bool fetches = run.choice.prefetch && next_item * parts < end;
      const int next_phase = fetches ? phase_of(next_item, &next) : 0;
      const TileFetch& fetch = run.phases[next_phase].fetch;
      for (int b = 0; b < channel_blocks; b++) {
        const int channel = b * run.choice.channels;
        place.channel_block = b;
        place.first = b == 0;
        place.last = b == channel_blocks - 1;
        place.x = x + channel * lx.channel_stride * 4;
        place.next_count = 0;
        const auto fetch_lines = [&](const PrefetchLines& lines) { place.next[place.next_count++] = lines; };
        if (run.choice.prefetch && run.choice.by_rows) {
          const int64_t steps = parts * channel_blocks;
          const int64_t step = tile.in_rows * steps + part * channel_blocks + b,
                        all_steps = tile.of_rows * steps;
          if (fetches) {
            RowRange rows = fetch.rows(next_phase == place.phase ? &tile : nullptr, next);
            fetch_lines(lines_of_rows(run.x, lx, rows, 0, pass.inputs(), step, all_steps));
            if (takes_turns && before != nullptr) {
              rows.begin = std::max<int64_t>(rows.begin, makes.done() - int64_t{rows.block} * lx.height);
              for (const RowWork::Source& source : *before) {
                if (source.x != run.x)
                  fetch_lines(lines_of_rows(source.x, source.layout, rows, 0, source.layout.channels, step,
                                            all_steps));
              }
            }
          }
          if (takes_turns && after != nullptr && place.phase + 1 == run.phase_count) {
            const RowRange rows = {tile.block, tile.row * pass.y_step,
                                   std::min((tile.row + tile.height) * pass.y_step, ly.height)};
            for (const RowWork::Source& source : *after)
              fetch_lines(
                  lines_of_rows(source.x, source.layout, rows, 0, source.layout.channels, step, all_steps));
          }
        } else if (fetches) {
          fetch_lines(
              fetch.tile(run.x, next, channel, std::min(run.choice.channels, pass.inputs() - channel)));
        }
        call(place);
      }
      if (takes_turns && after != nullptr) reads.advance(written(index, tile, place.phase));
    }
    if (run.streams()) stream_fence();
  };

  if (!takes_turns) {
    if (before != nullptr) before->run_all(run.blocks, team);
    team.parallel_range(items * parts, [&](int64_t begin, int64_t end, int member) {
      RowProgress none(nullptr, 0, 0, member);
      walk(begin, end, member, none, none);
    });
    if (after != nullptr) after->run_all(run.blocks, team);
    return;
  }
  const auto blocks_before = [&](int64_t group) {
    return group < groups_of_blocks
               ? run.phases[0].tiling.item(group * run.phases[0].tiling.tiles(), run.blocks).block
               : run.blocks;
  };
  const int64_t per_member = groups_of_blocks / team.size();
  // A thread's last row clears the border that the next thread's first tile reads: it goes first.
  if (before != nullptr && team.size() > 1) {
    team.parallel([&](int member) {
      const int64_t end = blocks_before((member + 1) * per_member) * before->per_block();
      before->run(end - 1, end, member);
    });
  }
  team.parallel([&](int member) {
    const int64_t first_block = blocks_before(member * per_member),
                  end_block = blocks_before((member + 1) * per_member);
    RowProgress makes(before, before ? first_block * before->per_block() : 0,
                      before ? end_block * before->per_block() - (team.size() > 1) : 0, member);
    RowProgress reads(after, after ? first_block * after->per_block() : 0,
                      after ? end_block * after->per_block() : 0, member);
    walk(member * per_member * tiles, (member + 1) * per_member * tiles, member, makes, reads);
    if (before != nullptr) makes.advance(end_block * before->per_block());
  });
}

}  // namespace rp
