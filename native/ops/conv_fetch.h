// What a thread fetches beside a call of a kernel, for those that follow: what the next call reads (of the
// next tile, or of the same tile's next channel block), or, where tiles follow each other along rows
// (TileChoice::by_rows), a share of the rows that the tiles of the next rows add. The latter stand one after
// another in memory, so that the processor's own prefetchers run ahead of ours: several times the bandwidth
// of a tile's scattered runs.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "ops/conv_pass.h"
#include "ops/conv_tiling.h"
#include "ops/gather_flags.h"
#include "ops/row_work.h"

namespace rp {

// Share `index` of `count` of these rows, of some channels.
PrefetchLines lines_of_rows(const float* tensor, const Layout&, const RowRange&, int channel, int channels,
                            int64_t index, int64_t count);

// Share of what rows of another tensor of the same positions, which may be cut into other rows, take of a
// work's source.
PrefetchLines lines_of_source(const RowWork::Source&, const Layout& of, const RowRange&, int64_t index,
                              int64_t count);

// Rows [first, last] that taps reach from a position; none: no taps.
struct RowReach {
  int first = 0, last = -1;
  bool none() const { return last < first; }
  void cover(const RowReach& other) {
    if (other.none()) return;
    *this = none() ? other : RowReach{std::min(first, other.first), std::max(last, other.last)};
  }
};

// Which lines of a tile: those that the tiles before it do not read; or all, where so much passes through the
// caches between two calls that what a neighbour has read is gone, as with several blocks of channels.
enum class TileLines { not_read_before, all };
inline TileLines lines_for_blocks(int blocks) {
  return blocks > 1 ? TileLines::all : TileLines::not_read_before;
}

// The channels of a tile that calls take one block after another.
struct ChannelBlocks {
  int begin, end, per_block;
  int in_block(int from) const { return std::min(per_block, end - from); }
};

class TileFetch {
 public:
  TileFetch() = default;
  // Of the tensor that the pass reads.
  TileFetch(const ConvPass&, const TileChoice&, TileLines);

  // Channels [channel, channel + channels) of what is fetched for `next`.
  PrefetchLines tile(const float* tensor, const TileItem& next, int channel, int channels) const;
  // Share `index` of `count` of these: what only the next tile reads is fetched beside each of a tile's
  // blocks.
  PrefetchLines tile_share(const float* tensor, const TileItem& next, int channel, int channels, int index,
                           int count) const {
    const int from = channels * index / count, to = channels * (index + 1) / count;
    return tile(tensor, next, channel + from, to - from);
  }
  // The rows that `next`, the first tile of other rows, reads. Where `now` is a tile of the same pass, before
  // it in the same image block: less what that reads.
  RowRange rows(const TileItem* now, const TileItem& next) const { return rows(now, next, reach_); }
  // With the taps of several passes.
  RowRange rows(const TileItem* now, const TileItem& next, const RowReach& reach) const;
  // Share `index` of `count` of these rows, of some channels.
  PrefetchLines row_lines(const float* tensor, const TileItem* now, const TileItem& next, int channel,
                          int channels, int64_t index, int64_t count) const {
    PrefetchLines lines = lines_of_rows(tensor, layout_, rows(now, next), channel, channels, index, count);
    lines.to_l1 = to_l1_;
    return lines;
  }

  // What the call after one for `now`, from this channel on, reads: the tile's next block, or behind the last
  // one the first of `next` (null: nothing), a tile of the pass that `of_next` belongs to. No earlier: lists,
  // weights and partial sums of all blocks would push it out again (docs/decisions/0084).
  PrefetchLines next_call(const float* tensor, const ChannelBlocks& blocks, int channel, const TileItem& now,
                          const TileFetch& of_next, const TileItem* next) const {
    const int behind = channel + blocks.per_block;
    if (behind < blocks.end) return tile(tensor, now, behind, blocks.in_block(behind));
    if (next == nullptr) return {};
    return of_next.tile(tensor, *next, blocks.begin, blocks.in_block(blocks.begin));
  }

  const RowReach& reach() const { return reach_; }

  int64_t bytes() const { return 4 * static_cast<int64_t>(offsets_.capacity()); }

 private:
  Layout layout_;
  bool to_l1_ = false;
  int step_ = 1;
  RowReach reach_;
  std::vector<int32_t> offsets_;  // bytes, of a tile's new lines, of one channel
};

}  // namespace rp
