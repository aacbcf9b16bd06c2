// Wgrad by parts of the images: each part's sums stand for themselves and are added in the end, in one order,
// whatever the number of threads. For layers with few weights beside their inputs: threads that share the
// weights instead all read the whole of x or dy. A pass of its own, or beside dgrad, a part at a time, while
// the rows of dy are in the thread's caches.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>

#include "core/layout.h"
#include "cpu/threads.h"
#include "ops/conv.h"
#include "ops/conv_fetch.h"
#include "ops/conv_tiling.h"

namespace rp {

constexpr int kImageParts = 8;  // at most

inline int64_t image_parts(int64_t groups) { return std::min<int64_t>(kImageParts, groups); }
// Where part `index` begins, of the parts of so many groups of image blocks.
inline int64_t part_begin(int64_t groups, int64_t index) { return groups * index / image_parts(groups); }

// So many threads beyond the parts share the weights of each.
inline int sharing_threads(int threads) { return (threads + kImageParts - 1) / kImageParts; }

// A weight gradient over tiles [first, last) of a batch.
struct WgradRun {
  const float *x, *dy;
  Layout x_layout, dy_layout;
  float* dw;  // packed
  int blocks;
  bool add;
  int64_t first, last;
  bool fetch = true;              // x and dy of tiles to come
  const RowWork* next = nullptr;  // instead, as in RowTurn
  RowRange next_rows = {};
};

// Beside step `step` of so many.
inline void fetch_for_next(const WgradRun& run, int64_t step, int64_t steps, PrefetchLines (&lines)[2]) {
  static_assert(RowWork::kMostSources <= 2);
  if (run.next == nullptr) return;
  PrefetchLines* line = lines;
  for (const RowWork::Source& source : *run.next)
    *line++ = lines_of_source(source, run.next->rows(), run.next_rows, step, steps);
}

// The sums of all parts to dw.
inline void add_image_parts(float* dw, bool add, int64_t parts, int64_t weights, const float* sums,
                            ThreadTeam& team) {
  team.parallel_range(weights, [&](int64_t begin, int64_t end, int) {
    for (int64_t j = begin; j < end; j++) {
      float sum = add ? dw[j] : 0;
      for (int64_t part = 0; part < parts; part++) sum += sums[part * weights + j];
      dw[j] = sum;
    }
  });
}

// The whole run, which begins at tile 0, of so many groups of image blocks and weights. wgrad(run, share,
// member) computes one of `shares` shares of the weights of a part. sums: kImageParts · weights floats, of
// which dw may be the first where nothing is added to it.
template <class Wgrad>
void wgrad_by_images(const WgradRun& whole, int64_t groups, int64_t weights, int64_t shares, float* sums,
                     ThreadTeam& team, const Wgrad& wgrad) {
  const int64_t parts = image_parts(groups), tiles = whole.last / groups;
  team.parallel_range(parts * shares, [&](int64_t begin, int64_t end, int member) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t part = i / shares;
      WgradRun run = whole;
      run.dw = sums + part * weights;
      run.add = false;
      run.first = part_begin(groups, part) * tiles;
      run.last = part_begin(groups, part + 1) * tiles;
      wgrad(run, i % shares, member);
    }
  });
  add_image_parts(whole.dw, whole.add, parts, weights, sums, team);
}

// Dgrad, then wgrad, of a dy that is stored.
inline void backward_apart(const ConvLayer& layer, const ConvBackward& run, const ConvWeights& weights,
                           int blocks, ThreadTeam& team) {
  layer.dgrad(run.dy, weights, run.dx, blocks, run.write_dx, team, run.beside);
  const auto start = std::chrono::steady_clock::now();
  layer.wgrad(run.x, run.dy, run.dw, blocks, run.add_dw, team);
  const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - start;
  if (run.wgrad_microseconds != nullptr) *run.wgrad_microseconds += spent.count();
}

// Wgrad beside dgrad: what ConvCompanions::reads_input does, of a RowWork over the rows of dy, in steps of
// tiling.band_rows(). For each part, clear(member), then walk(run, member) over tiles, band by band, then
// put(run, member). reach: rows of x that taps reach below a position, plus one.
template <class Clear, class Walk, class Put>
class WgradBeside {
 public:
  WgradBeside(const ConvBackward& backward, const Tiling& tiling, const Layout& x, int x_step, int reach,
              const Layout& dy, int blocks, int64_t weights, float* sums, const Clear& clear,
              const Walk& walk, const Put& put)
      : backward_(backward),
        tiling_(tiling),
        x_(x),
        dy_(dy),
        x_step_(x_step),
        reach_(reach),
        blocks_(blocks),
        weights_(weights),
        sums_(sums),
        clear_(clear),
        walk_(walk),
        put_(put) {}

  // The layer's whole backward.
  void run_with_dgrad(const ConvLayer& layer, const ConvWeights& weights, ThreadTeam& team) const {
    RowWork rows(dy_, tiling_.band_rows(), *this);
    if (backward_.makes_x == nullptr) {
      rows.reads(backward_.x, x_);
    } else {
      for (const RowWork::Source& source : *backward_.makes_x) rows.reads(source.x, source.layout);
    }
    ConvCompanions beside = backward_.beside;
    beside.reads_input = &rows;
    layer.dgrad(nullptr, weights, backward_.dx, blocks_, backward_.write_dx, team, beside);
    add_image_parts(backward_.dw, backward_.add_dw, image_parts(tiling_.groups(blocks_)), weights_, sums_,
                    team);
  }

  // A RowWork's turn.
  void operator()(int64_t begin, int64_t end, const RowTurn& turn) const {
    if (turn.member > 0 || backward_.wgrad_microseconds == nullptr) return run(begin, end, turn);
    const auto start = std::chrono::steady_clock::now();
    run(begin, end, turn);
    const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - start;
    *backward_.wgrad_microseconds += spent.count();
  }

 private:
  // Bands of one block.
  void run(int64_t begin, int64_t end, const RowTurn& turn) const {
    const int member = turn.member;
    const int64_t bands = (dy_.height + tiling_.band_rows() - 1) / tiling_.band_rows();
    const int64_t block = begin / bands, from = begin % bands, to = from + end - begin;
    const int64_t groups = tiling_.groups(blocks_);
    int64_t part = 0;
    while (part_begin(groups, part + 1) <= block) part++;
    const bool makes_x = backward_.makes_x != nullptr;
    float* const made = makes_x ? backward_.made_x[member] : nullptr;
    if (from == 0 && block == part_begin(groups, part)) {
      clear_(member);
      if (made) std::fill_n(made - x_.margin, x_.margin, 0.0f);
    }
    if (makes_x) {
      const int64_t first = block * x_.height;
      backward_.makes_x->run(first + x_rows(from, bands), first + x_rows(to, bands), {member});
    }
    WgradRun tiles{};
    tiles.x = makes_x ? made : backward_.x;
    tiles.x_layout = makes_x ? one_block(x_) : x_;
    tiles.fetch = false;
    tiles.dy = backward_.beside.input[member];
    tiles.dy_layout = one_block(dy_);
    tiles.dw = sums_ + part * weights_;
    tiles.blocks = blocks_;
    tiles.first = block * tiling_.tiles() + tiling_.band_begin(from);
    tiles.last = block * tiling_.tiles() + tiling_.band_begin(to);
    tiles.next = turn.next;
    tiles.next_rows = turn.next_rows;
    walk_(tiles, member);
    if (to == bands && block + 1 == part_begin(groups, part + 1)) put_(tiles, member);
  }

  // Of x, that the bands before this one read.
  int64_t x_rows(int64_t band, int64_t bands) const {
    if (band == 0) return 0;
    if (band == bands) return x_.height;
    return std::clamp<int64_t>((band * tiling_.band_rows() - 1) * x_step_ + reach_, 0, x_.height);
  }

  const ConvBackward& backward_;
  const Tiling& tiling_;
  const Layout &x_, &dy_;
  int x_step_, reach_, blocks_;
  int64_t weights_;
  float* sums_;
  const Clear& clear_;
  const Walk& walk_;
  const Put& put_;
};

}  // namespace rp
