// Runs the passes of a convolution's forward or dgrad (conv_pass.h) over all tiles on all threads: image
// block → pass → tile → channel block → outputs (PERFORMANCE, CPU design 3). The sparse and the dense kernels
// differ only in `call`.
#pragma once
#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "cpu/features.h"
#include "cpu/threads.h"
#include "ops/conv_fetch.h"
#include "ops/conv_images.h"
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
    fetch = TileFetch(pass, choice, lines_for_blocks(channel_blocks(choice)));
  }
  int channel_blocks(const TileChoice& choice) const {
    return (pass.inputs() + choice.channels - 1) / choice.channels;
  }
  int64_t bytes() const { return tiling.bytes() + fetch.bytes(); }
  // Of partial sums that one thread needs.
  int64_t scratch(const TileChoice& choice) const {
    return channel_blocks(choice) == 1 ? 0 : int64_t{64} * tiling.largest() * pass.outputs();
  }
};

// One call of a gather kernel: a tile, a block of input channels, a range of outputs.
struct GatherPlace {
  const char* x;                           // tile's first position, first channel of the block
  char* y;                                 // tile's first position, first output of the range
  int64_t x_row, y_row, y_col, y_channel;  // bytes
  float* partial;
  PrefetchLines next[2 + 3 * RowWork::kMostSources];
  int next_count;
  TileSums sums;
  const char* with;  // of GatherDots: as y
  int64_t with_row, with_col, with_channel;
  int64_t image_part;
  int phase;
  int row, col, height, width;
  int channel_block, output, outputs;
  bool first, last;
};

// Wgrad within a run of dgrad, whose kernel takes both from what it loads of dy (docs/decisions/0087): x,
// whose positions are those of the run's outputs. Sums are kept by image parts (conv_images.h); a part's
// tiles run in order, on one thread or on several that share the outputs.
struct GatherDots {
  const float* x;
  Layout layout;
  const RowWork* makes;  // instead of x: in memory of each thread, of one image block
  float* const* made;
  const TileFetch& fetch;                                              // of x
  const std::function<void(int64_t part, int output, int end)> begin;  // of a part, for outputs [output, end)
};

struct GatherRun {
  const GatherPhase* phases;  // cut by the same choice; their x and y are the same tensors
  int phase_count;
  const TileChoice& choice;
  int output_group;  // outputs are split between threads at multiples of it
  const float* x;    // null: see ConvCompanions::input
  float* y;
  int blocks;
  const ConvSums* sums;  // null: not wanted; of a single phase only
  ConvCompanions beside = {};
  const GatherDots* dots = nullptr;

  // Whether the work beside it takes turns with the tiles: where what it makes is nowhere stored, or an image
  // block fits the caches. Elsewhere it would only keep what is written from being streamed
  // (docs/decisions/0088).
  bool turns_pay() const {
    if (beside.input != nullptr) return true;
    const Layout &from = phases[0].pass.x, &to = phases[0].pass.y;
    const int64_t block = 4 * (from.parts * from.block_stride + to.parts * to.block_stride);
    return (beside.before || beside.after) && block <= 4 * core_caches().l2_bytes;
  }
  bool streams() const { return choice.stream && !(beside.after && turns_pay()); }
};

// Flags of a phase's outputs (gather_flags.h); kNoOutput: there is nothing to do. empty: no weight is kept.
constexpr uint32_t kNoOutput = ~uint32_t{0};
inline uint32_t output_flags(const GatherRun& run, const PhaseWrite& write, int phase, bool empty) {
  const uint64_t bit = uint64_t{1} << std::min(phase, 63);
  if ((write.leave & bit) != 0 || (empty && (write.add & bit) != 0)) return kNoOutput;
  return write.add & bit ? kAddOut : run.streams() ? kStreamOut : 0;
}

// The tiles of a run: of one group of image blocks after another; phase by phase, or, where tiles follow
// rows, row by row the tiles of all phases, so that dgrad writes neighbouring rows and columns together.
class GatherItems {
 public:
  explicit GatherItems(const GatherRun& run) : run_(run), groups_(run.phases[0].tiling.groups(run.blocks)) {
    const Tiling& first = run.phases[0].tiling;
    phases_together_ = run.phase_count > 1 && first.rows_of_tiles() > 0;
    for (int p = 0; p < run.phase_count; p++) {
      const Tiling& tiling = run.phases[p].tiling;
      tiles_ += tiling.tiles();
      phases_together_ &= tiling.rows_of_tiles() == first.rows_of_tiles();
      reach_.cover(run.phases[p].fetch.reach());
    }
  }

  int64_t groups() const { return groups_; }
  int64_t tiles() const { return tiles_; }  // of one group
  int64_t count() const { return groups_ * tiles_; }
  bool phases_together() const { return phases_together_; }
  // Gives its phase.
  int find(int64_t item, TileItem* tile) const {
    const int64_t group = item / tiles_;
    int64_t left = item % tiles_;
    int p = 0;
    if (phases_together_) {
      const int64_t of_row = tiles_ / run_.phases[0].tiling.rows_of_tiles(), in_row = left % of_row;
      for (left = in_row; left >= run_.phases[p].tiling.tiles_in_row(); p++)
        left -= run_.phases[p].tiling.tiles_in_row();
      const Tiling& tiling = run_.phases[p].tiling;
      const int64_t row = item % tiles_ / of_row;
      *tile = tiling.item(group * tiling.tiles() + row * tiling.tiles_in_row() + left, run_.blocks);
      tile->in_rows = static_cast<int>(in_row);
      tile->of_rows = static_cast<int>(of_row);
      return p;
    }
    for (; left >= run_.phases[p].tiling.tiles(); p++) left -= run_.phases[p].tiling.tiles();
    const Tiling& tiling = run_.phases[p].tiling;
    *tile = tiling.item(group * tiling.tiles() + left, run_.blocks);
    return p;
  }
  // The rows that `next`, in a phase, reads and `now` before it, in another or the same, did not.
  RowRange new_rows(const TileItem& now, int phase, const TileItem& next, int next_phase) const {
    const TileFetch& fetch = run_.phases[next_phase].fetch;
    return phases_together_ ? fetch.rows(&now, next, reach_)
                            : fetch.rows(next_phase == phase ? &now : nullptr, next);
  }
  // The first group of a thread that has whole ones, or the end.
  int64_t share_begin(int64_t member, int64_t members) const {
    if (run_.beside.reads_input == nullptr && run_.dots == nullptr) return groups_ * member / members;
    return part_begin(groups_, image_parts(groups_) * member / members);
  }
  // Image blocks before a group, which may be the end.
  int blocks_before(int64_t group) const {
    const Tiling& tiling = run_.phases[0].tiling;
    return group < groups_ ? tiling.item(group * tiling.tiles(), run_.blocks).block : run_.blocks;
  }

 private:
  const GatherRun& run_;
  int64_t groups_, tiles_ = 0;
  RowReach reach_;  // of all phases
  bool phases_together_;
};

// Rows of the output that a tile, and the same of the pass's other phases, write to.
inline RowRange written_rows(const ConvPass& pass, const TileItem& tile) {
  return {tile.block, tile.row * pass.y_step,
          std::min((tile.row + tile.height) * pass.y_step, pass.y.height)};
}

// One thread's turns of the work beside a run, while it walks whole groups of blocks: nothing where
// there is no such work, or where it is done before and after the run instead.
class GatherTurns {
 public:
  GatherTurns() = default;
  // last_is_made: its last item of the work before has been done.
  GatherTurns(const GatherRun& run, const GatherItems& items, int begin_block, int end_block,
              bool last_is_made, int member)
      : run_(&run), items_(&items) {
    const auto share = [&](const RowWork* work, int64_t left_out) {
      if (work == nullptr) return RowProgress();
      return RowProgress(work, begin_block * work->per_block(), end_block * work->per_block() - left_out,
                         member);
    };
    makes_ = share(run.beside.before, last_is_made);
    reads_ = share(run.beside.after, 0);
    reads_input_ = share(run.beside.reads_input, 0);
    if (run.dots != nullptr) makes_with_ = share(run.dots->makes, 0);
  }

  // Has the rows made that this tile reads.
  void before(const TileItem& tile, int phase) {
    if (const RowWork* work = makes_.work()) {
      const int row = (tile.row + tile.height - 1) * run_->phases[phase].pass.x_step;
      const int reach = row + run_->phases[phase].fetch.reach().last + 1;
      makes_.advance(run_->choice.across_blocks ? (tile.block + tile.height) * work->per_block()
                                                : tile.block * work->per_block() + work->reaching(reach));
    }
    if (const RowWork* work = makes_with_.work())
      makes_with_.advance(tile.block * work->per_block() +
                          work->reaching(written_rows(run_->phases[phase].pass, tile).end));
  }

  // Has the rows read that are complete with this tile: those written with the last strip of the last phase.
  void after(int64_t item, const TileItem& tile, int phase) {
    if (run_ == nullptr) return;
    const bool across = run_->choice.across_blocks;
    if ((item + 1) % items_->tiles() == 0) {
      const int block = tile.block + (across ? tile.height : 1);
      makes_.advance_to_block(block);
      reads_.advance_to_block(block);
      if (reads_input_.work() != nullptr) read_input(block * reads_input_.work()->per_block(), tile);
      return;
    }
    const ConvPass& pass = run_->phases[phase].pass;
    if (across || tile.col + tile.width < pass.cols || tile.in_rows + 1 < tile.of_rows) return;
    // Before the work on the input, which would push out what has only been written (ResNet-20 at 0.9 4 %
    // slower).
    if (const RowWork* work = last_phase(phase) ? reads_.work() : nullptr) {
      const int complete = (tile.row + tile.height - 1) * pass.y_step + pass.y_row + 1;
      reads_.advance(tile.block * work->per_block() + work->within(complete));
    }
    if (const RowWork* work = reads_input_.work()) {
      const int made = static_cast<int>(makes_.done() - tile.block * makes_.work()->per_block());
      read_input(tile.block * work->per_block() + work->within(made), tile);
    }
  }

  // add(lines) for share `step` of `steps` of what the work will read: with the rows that the next tiles add,
  // and with those that this row of tiles completes.
  template <class Add>
  void fetch_next(RowRange rows, int64_t step, int64_t steps, const Add& add) const {
    const RowWork* work = makes_.work();
    if (work == nullptr || input_readers_fetch()) return;
    rows.begin =
        static_cast<int>(std::max<int64_t>(rows.begin, makes_.done() - rows.block * work->per_block()));
    for (const RowWork::Source& source : *work) {
      if (source.x != run_->x) add(lines_of_source(source, work->rows(), rows, step, steps));
    }
  }
  template <class Add>
  void fetch_with(const RowRange& rows, int64_t step, int64_t steps, const Add& add) const {
    const RowWork* work = makes_with_.work();
    if (work == nullptr) return;
    for (const RowWork::Source& source : *work) add(lines_of_source(source, work->rows(), rows, step, steps));
  }
  template <class Add>
  void fetch_read(const TileItem& tile, int phase, int64_t step, int64_t steps, const Add& add) const {
    if (run_ == nullptr || !(last_phase(phase) || items_->phases_together())) return;
    const ConvPass& pass = run_->phases[phase].pass;
    const RowRange rows = written_rows(pass, tile);
    const RowWork *written = reads_.work(), *made = reads_input_.work();
    const auto add_rows = [&](const RowWork::Source& source) {
      add(lines_of_source(source, pass.y, rows, step, steps));
    };
    if (written != nullptr) {
      for (const RowWork::Source& source : *written) add_rows(source);
    }
    if (made == nullptr) return;
    for (const RowWork::Source& source : *made) {
      if (written == nullptr || !written->reads(source.x)) add_rows(source);
    }
  }

 private:
  bool last_phase(int phase) const { return phase + 1 == run_->phase_count; }

  // Whether what reads the input fetches for what makes it: memory is busy while either runs.
  bool input_readers_fetch() const {
    return run_->choice.prefetch && run_->choice.by_rows && reads_input_.work() != nullptr &&
           reads_input_.work()->per_block() > 1;
  }
  void read_input(int64_t item, const TileItem& tile) {
    if (!input_readers_fetch()) return reads_input_.advance(item);
    // As many rows as a row of tiles adds, or those that the first of a block reads.
    const int height = static_cast<int>(makes_.work()->per_block());
    const int made = static_cast<int>(makes_.done() - int64_t{tile.block} * height);
    RowRange rows = {tile.block, made, std::min(made + tile.height, height)};
    if (made == height && makes_.done() < makes_.end())
      rows = {tile.block + 1, 0, std::min(tile.height + 1, height)};
    reads_input_.advance(item, makes_.work(), rows);
  }

  const GatherRun* run_ = nullptr;
  const GatherItems* items_ = nullptr;
  RowProgress makes_, reads_, reads_input_, makes_with_;
};

// What a thread walks: of the tiles, each with its shares of the outputs, every step-th of [begin, end), all
// of one image part where there are GatherDots. What follows is fetched up to fetch_end.
struct GatherStretch {
  int64_t begin, end, fetch_end, step = 1, image_part = 0;
};

template <class Call>
void run_gather(const GatherRun& run, ThreadTeam& team, ConvScratch& scratch, void (*stream_fence)(),
                const Call& call) {
  const ConvPass& first = run.phases[0].pass;
  float* const* const made = run.beside.input;
  const Layout lx = made ? one_block(first.x) : first.x, ly = first.y;
  const int channel_blocks = run.phases[0].channel_blocks(run.choice);
  const ChannelBlocks channels = {0, first.inputs(), run.choice.channels};
  const GatherItems all(run);
  const int64_t items = all.count();
  const int64_t x_row = 4 * (run.choice.across_blocks ? lx.block_stride : lx.row_stride * first.x_step);
  const int64_t y_row = 4 * (run.choice.across_blocks ? ly.block_stride : ly.row_stride * first.y_step);

  // Images of the last block.
  alignas(64) float lanes[kImagesPerBlock];
  const int full_blocks = run.blocks / ly.parts - 1;
  const int last_images = run.sums ? run.sums->images - full_blocks * kImagesPerBlock : kImagesPerBlock;
  for (int i = 0; i < kImagesPerBlock; i++) lanes[i] = i < last_images ? 1.0f : 0.0f;

  // Few tiles: outputs are split as well. Every value is still computed by one thread in one order.
  const int groups = (first.outputs() + run.output_group - 1) / run.output_group;
  int64_t parts = 1;
  const int64_t image_part_count = image_parts(all.groups());
  if (run.dots != nullptr) {
    if (!made) parts = std::min<int64_t>(groups, (team.size() + image_part_count - 1) / image_part_count);
  } else {
    while (!made && items * parts < 4 * team.size() && team.size() > 1 && parts * 4 <= groups) parts *= 2;
  }
  const auto first_output = [&](int64_t part) {
    return std::min<int>(first.outputs(), groups * part / parts * run.output_group);
  };

  const auto walk = [&](const GatherStretch& stretch, int member, GatherTurns& turns) {
    GatherPlace place;
    place.x_row = x_row;
    place.y_row = y_row;
    place.y_col = int64_t{64} * first.y_step;
    place.y_channel = ly.channel_stride * 4;
    place.partial = scratch.member(member);
    const float* const input = made ? made[member] : run.x;  // made: of one image block
    place.image_part = stretch.image_part;
    const GatherDots* const dots = run.dots;
    const float* const with = dots ? dots->makes ? dots->made[member] : dots->x : nullptr;
    const Layout lw = dots ? dots->makes ? one_block(dots->layout) : dots->layout : Layout();
    place.with_row = 4 * (run.choice.across_blocks ? lw.block_stride : lw.row_stride * first.y_step);
    place.with_col = int64_t{64} * first.y_step;
    place.with_channel = lw.channel_stride * 4;
    for (int64_t index = stretch.begin; index < stretch.end; index += stretch.step) {
      const int64_t part = index % parts;
      TileItem tile, next;
      place.phase = all.find(index / parts, &tile);
      const ConvPass& pass = run.phases[place.phase].pass;
      turns.before(tile, place.phase);
      place.output = first_output(part);
      place.outputs = first_output(part + 1) - place.output;
      place.row = tile.row;
      place.col = tile.col;
      place.height = tile.height;
      place.width = tile.width;
      if (run.sums) {
        place.sums.sums = run.sums->sums + index / parts * 2 * pass.outputs() + place.output;
        place.sums.stride = pass.outputs();
        const int last_block = tile.block + (run.choice.across_blocks ? tile.height : 1) - 1;
        const bool masked = last_images < kImagesPerBlock && last_block / ly.parts == full_blocks;
        place.sums.lanes = masked ? lanes : nullptr;
        place.sums.masked_row = masked && run.choice.across_blocks ? tile.height - 1 : 0;
        place.sums.images = last_images;
      }
      const char* x = reinterpret_cast<const char*>(
          input + lx.at(tile.block, 0, tile.row * first.x_step, tile.col * first.x_step));
      place.y =
          reinterpret_cast<char*>(run.y + ly.at(tile.block, place.output, tile.row * pass.y_step + pass.y_row,
                                                tile.col * pass.y_step + pass.y_col));
      if (dots) {
        place.with = reinterpret_cast<const char*>(with + lw.at(tile.block, place.output,
                                                                tile.row * pass.y_step + pass.y_row,
                                                                tile.col * pass.y_step + pass.y_col));
      }
      // The next tile, by rows the first of the next rows.
      const int64_t next_item = index / parts + tile.of_rows - tile.in_rows;
      const bool fetches = run.choice.prefetch && next_item * parts < stretch.fetch_end;
      const int next_phase = fetches ? all.find(next_item, &next) : 0;
      const TileFetch &fetch = run.phases[place.phase].fetch, &of_next = run.phases[next_phase].fetch;
      for (int b = 0; b < channel_blocks; b++) {
        const int channel = b * run.choice.channels;
        place.channel_block = b;
        place.first = b == 0;
        place.last = b == channel_blocks - 1;
        place.x = x + channel * lx.channel_stride * 4;
        place.next_count = 0;
        const auto add = [&](const PrefetchLines& lines) {
          place.next[place.next_count] = lines;
          place.next[place.next_count++].to_l1 = run.choice.to_l1;
        };
        if (run.choice.prefetch && run.choice.by_rows) {
          const int64_t of_tile = parts * channel_blocks, steps = tile.of_rows * of_tile;
          const int64_t step = tile.in_rows * of_tile + part * channel_blocks + b;
          if (fetches) {
            const RowRange rows = all.new_rows(tile, place.phase, next, next_phase);
            if (!made) add(lines_of_rows(input, lx, rows, 0, pass.inputs(), step, steps));
            turns.fetch_next(rows, step, steps, add);
            if (dots) {
              const RowRange of_outputs = written_rows(pass, next);
              if (dots->makes == nullptr)
                add(lines_of_rows(with, lw, of_outputs, 0, pass.outputs(), step, steps));
              turns.fetch_with(of_outputs, step, steps, add);
            }
          }
          turns.fetch_read(tile, place.phase, step, steps, add);
        } else if (run.choice.prefetch && !made) {
          add(fetch.next_call(input, channels, channel, tile, of_next, fetches ? &next : nullptr));
          if (dots && fetches) {
            const ConvPass& to_come = run.phases[next_phase].pass;
            add(dots->fetch.tile_share(with + lw.at(0, 0, to_come.y_row, to_come.y_col), next, place.output,
                                       place.outputs, b, channel_blocks));
          }
        }
        call(place);
      }
      turns.after(index, tile, place.phase);
    }
    if (run.streams()) stream_fence();
  };

  const RowWork *before = run.beside.before, *after = run.beside.after;
  const bool takes_turns = made || (run.turns_pay() && parts == 1 && all.groups() % team.size() == 0);
  const auto tiles_before = [&](int64_t image_part) {
    return part_begin(all.groups(), image_part) * all.tiles();
  };
  if (!takes_turns) {
    if (before != nullptr) before->run_all(run.blocks, team);
    if (run.dots != nullptr) {
      team.parallel_range(image_part_count * parts, [&](int64_t begin, int64_t end, int member) {
        GatherTurns none;
        for (int64_t i = begin; i < end; i++) {
          const int64_t image_part = i / parts, share = i % parts;
          run.dots->begin(image_part, first_output(share), first_output(share + 1));
          const int64_t to = tiles_before(image_part + 1) * parts;
          walk({tiles_before(image_part) * parts + share, to, to, parts, image_part}, member, none);
        }
      });
    } else {
      team.parallel_range(items * parts, [&](int64_t begin, int64_t end, int member) {
        GatherTurns none;
        walk({begin, end, end}, member, none);
      });
    }
    if (after != nullptr) after->run_all(run.blocks, team);
    return;
  }
  // A thread's last row clears the border that the next thread's first tile reads: it is made first. Not
  // where each has memory of its own, in which only the border above the first row is left to clear.
  const bool neighbours = before != nullptr && !made && team.size() > 1;
  if (neighbours) {
    team.parallel([&](int member) {
      const int64_t end = all.blocks_before(all.share_begin(member + 1, team.size())) * before->per_block();
      before->run(end - 1, end, {member});
    });
  }
  team.parallel([&](int member) {
    const int64_t begin = all.share_begin(member, team.size());
    const int64_t end = all.share_begin(member + 1, team.size());
    if (made) std::fill_n(made[member] - lx.margin, lx.margin, 0.0f);
    GatherTurns turns(run, all, all.blocks_before(begin), all.blocks_before(end), neighbours, member);
    const int64_t last = end * all.tiles();
    if (run.dots == nullptr) return walk({begin * all.tiles(), last, last}, member, turns);
    for (int64_t part = 0; part < image_part_count; part++) {
      const int64_t from = tiles_before(part);
      if (from < begin * all.tiles() || from >= last) continue;
      run.dots->begin(part, 0, first.outputs());
      walk({from, tiles_before(part + 1), last, 1, part}, member, turns);
    }
  });
}

}  // namespace rp
