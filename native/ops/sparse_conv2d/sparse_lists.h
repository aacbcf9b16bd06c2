// The lists that the sparse kernels walk. A list is cut into blocks of input channels (the x tile of a block
// fits L1); inside a block nonzeros are ordered by output, then row kind, then channel, then tap.
//
// Row kinds: in a 3x3 pass of unit stride, taps that reach one row up, none, one row down. A tile at the
// map's first (last) row leaves out what reads the zero row above (below) it: on small maps much of all work.
// Other passes have one kind.
//
// Pairs: outputs 2p and 2p + 1 are walked together, in three rows: the nonzeros that both keep, each of whose
// inputs is loaded once for two weights; those of the first alone; those of the second alone. Otherwise a row
// is an output.
//
// The forward list's order is the "stream order" in which ConvWeights keeps the values; wgrad walks the same
// list. With one kind, the part of one output in one block is contiguous in packed order too; with three the
// kinds of its nonzeros tell the way (for_each_packed), so that neither packing nor reducing needs a
// permutation in memory. Dgrad lists (one a phase) have an index into the stream order beside each offset, by
// which the weights are put into the list's order before a pass. Together with the weights: 16 bytes a
// nonzero.
#pragma once
#include <cstdint>
#include <vector>

#include "ops/conv_pass.h"

namespace rp {

// Nonzeros of one output in one block are fewer than two to this power.
constexpr int kPlaceBits = 21;
inline int most_channels(int taps) { return ((1 << kPlaceBits) - 1) / (taps > 0 ? taps : 1); }

struct SparseList {
  int channels = 1;  // input channels a block
  int kinds = 1;
  int together = 1;  // outputs that are walked together
  int blocks = 0, outputs = 0, rows = 0;
  std::vector<int32_t> ends;          // [blocks][rows + 1]
  std::vector<uint8_t> splits;        // three kinds: [blocks][rows][2], where the second and the third begin
  std::vector<int32_t> pair_weights;  // pairs: [blocks][pairs + 1], where a pair's weights begin
  // Offsets in bytes, multiples of a line. The six lowest bits of the e-th entry of an output and block tell
  // where its e-th nonzero in packed order stands: its kind; of pairs also whether it is the output's own, in
  // three bits for either output. Behind the entries stand the kListAhead that kernels may read.
  std::vector<int32_t> list;
  int32_t first = 0;  // dgrad: nonzeros of the phases before

  int row_of(int output) const { return together == 1 ? output : output / 2 * 3; }
  const int32_t* ends_of(int block) const { return ends.data() + int64_t{block} * (rows + 1); }
  const uint8_t* splits_of(int block) const {
    return kinds == 1 ? nullptr : splits.data() + int64_t{block} * rows * 2;
  }
  // Where the weights begin of an output that begins a pair, or of the end.
  int32_t weights_of(int block, int output) const {
    if (together == 1) return ends_of(block)[output];
    return pair_weights[int64_t{block} * (rows / 3 + 1) + (output + 1) / 2];
  }
  int32_t nonzeros(int block, int output) const {
    const int32_t* of_row = ends_of(block) + row_of(output);
    const int32_t first_row = of_row[1] - of_row[0];
    return together == 1 ? first_row : first_row + of_row[2 + output % 2] - of_row[1 + output % 2];
  }
  int32_t nnz() const { return together == 1 ? ends.back() : pair_weights.back(); }
  bool empty() const { return nnz() == 0; }
  // Whether an output's nonzeros in a block stand in packed order.
  bool is_packed() const { return together == 1 && kinds == 1; }
  int64_t bytes() const {
    return 4 * static_cast<int64_t>(ends.capacity() + pair_weights.capacity() + list.capacity()) +
           static_cast<int64_t>(splits.capacity());
  }

  // visit(place of its weight, place among the output's nonzeros in list order) for each nonzero of one
  // output in one block, in packed order.
  template <class Visit>
  void for_each_packed(int block, int output, const Visit& visit) const {
    const int row = row_of(output), second = output % 2;
    const int32_t* of_row = ends_of(block) + row;
    const int32_t count = nonzeros(block, output);
    if (is_packed()) {
      for (int32_t e = 0; e < count; e++) visit(of_row[0] + e, e);
      return;
    }
    // Next of each kind, in the row that the output begins with, and in that of its own: in fields of a
    // register, as every step waits for the one before.
    const auto splits_begin = [&](int r) -> uint64_t {
      if (kinds == 1) return 0;
      const uint8_t* split = splits_of(block) + int64_t{r} * 2;
      return uint64_t{split[0]} << kPlaceBits | uint64_t{split[1]} << 2 * kPlaceBits;
    };
    uint64_t next = splits_begin(row), next_own = together == 1 ? 0 : splits_begin(row + 1 + second);
    constexpr uint64_t kPlace = (1 << kPlaceBits) - 1;
    const int32_t* codes = list.data() + of_row[0];
    if (together == 1) {
      for (int32_t e = 0; e < count; e++) {
        const int field = (codes[e] & 3) * kPlaceBits;
        const int32_t nth = next >> field & kPlace;
        next += uint64_t{1} << field;
        visit(of_row[0] + nth, nth);
      }
      return;
    }
    const int32_t both = of_row[1] - of_row[0], weights = weights_of(block, output - second);
    const int32_t own_weights = weights + both + of_row[1 + second] - of_row[0];
    // Without branches: whether a nonzero is shared cannot be predicted.
    for (int32_t e = 0; e < count; e++) {
      const int32_t code = codes[e] >> (3 * second);
      const int field = (code & 3) * kPlaceBits;
      const int32_t own = -(code >> 2 & 1);  // all bits, or none
      const uint64_t own_bits = static_cast<uint64_t>(int64_t{own}), one = uint64_t{1} << field;
      const int32_t nth = ((next & ~own_bits) | (next_own & own_bits)) >> field & kPlace;
      next += one & ~own_bits;
      next_own += one & own_bits;
      visit(((weights + 2 * nth + second) & ~own) | ((own_weights + nth) & own), nth + (both & own));
    }
  }
};

// Whether tiles of this pass tell row kinds apart.
bool has_row_kinds(const ConvPass&);

// row_starts: outputs + 1 positions in packed order.
SparseList forward_list(const ConvShape&, const MaskView&, const ConvPass&, int channels, int together,
                        std::vector<int32_t>* row_starts);
// One a phase. stream_index: the place in the forward list of each of their nonzeros, phase after phase.
std::vector<SparseList> dgrad_lists(const ConvShape&, const MaskView&,
                                    const std::vector<const ConvPass*>& phases, int channels, int together,
                                    const std::vector<int32_t>& stream_order,
                                    std::vector<int32_t>* stream_index);
// The place in the forward list of each nonzero, in packed order.
std::vector<int32_t> stream_order(const SparseList& forward, int64_t nnz);

}  // namespace rp
