// The lists that the sparse kernels walk. A list is cut into blocks of input channels (the x tile of a block
// fits L1); inside a block nonzeros are ordered by output, then row kind, then channel, then tap.
//
// Row kinds: in a 3x3 pass of unit stride, taps that reach one row up, none, one row down. A tile at the
// map's first (last) row leaves out what reads the zero row above (below) it: on small maps much of all work.
// Other passes have one kind.
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

struct SparseList {
  int channels = 1;  // input channels a block
  int kinds = 1;
  int blocks = 0, outputs = 0;
  std::vector<int32_t> ends;    // [blocks][outputs + 1]
  std::vector<uint8_t> splits;  // three kinds: [blocks][outputs][2], where the second and the third begin
  // nnz offsets in bytes, multiples of a line. The two lowest bits of an output's and block's e-th entry hold
  // the kind of its e-th nonzero in packed order. Behind them stand the kListAhead entries that kernels may
  // read.
  std::vector<int32_t> list;
  int32_t first = 0;  // dgrad: nonzeros of the phases before

  const int32_t* ends_of(int block) const { return ends.data() + int64_t{block} * (outputs + 1); }
  const uint8_t* splits_of(int block) const {
    return kinds == 1 ? nullptr : splits.data() + int64_t{block} * outputs * 2;
  }
  int32_t nnz() const { return ends.back(); }
  bool empty() const { return nnz() == 0; }
  int64_t bytes() const {
    return 4 * static_cast<int64_t>(ends.capacity() + list.capacity()) +
           static_cast<int64_t>(splits.capacity());
  }

  // visit(stream index) for one output in one block, in packed order.
  template <class Visit>
  void for_each_packed(int block, int output, const Visit& visit) const {
    const int32_t begin = ends_of(block)[output], end = ends_of(block)[output + 1];
    if (kinds == 1) {
      for (int32_t j = begin; j < end; j++) visit(j);
      return;
    }
    const uint8_t* split = splits_of(block) + int64_t{output} * 2;
    int32_t at[4] = {begin, begin + split[0], begin + split[1], 0};
    for (int32_t j = begin; j < end; j++) visit(at[list[j] & 3]++);
  }
};

// Whether tiles of this pass tell row kinds apart.
bool has_row_kinds(const ConvPass&);

// row_starts: outputs + 1 positions in packed order.
SparseList forward_list(const ConvShape&, const MaskView&, const ConvPass&, int channels,
                        std::vector<int32_t>* row_starts);
// One a phase. stream_index: the place in the forward list of each of their nonzeros, phase after phase.
std::vector<SparseList> dgrad_lists(const ConvShape&, const MaskView&,
                                    const std::vector<const ConvPass*>& phases, int channels,
                                    const std::vector<int32_t>& stream_order,
                                    std::vector<int32_t>* stream_index);
// The place in the forward list of each nonzero, in packed order.
std::vector<int32_t> stream_order(const SparseList& forward, int64_t nnz);

}  // namespace rp
