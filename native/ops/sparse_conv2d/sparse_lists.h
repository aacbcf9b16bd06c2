// The lists that the sparse kernels walk. A list is cut into blocks of input channels (the x tile of a block
// fits L1); inside a block nonzeros are ordered by output, then channel, then tap.
//
// Forward list: 4-byte offsets; its order is the "stream order" in which ConvWeights keeps the values. The
// part of one output in one block is contiguous in packed order too, so packing copies runs and needs no
// permutation. Wgrad walks the same list. Dgrad lists (one a phase): pairs {offset, index into the stream
// order}: for a fixed input channel the indices advance along a few hot lines, so dgrad needs no second copy
// of the weights. Together with the weights: 16 bytes a nonzero.
#pragma once
#include <cstdint>
#include <vector>

#include "ops/conv_pass.h"

namespace rp {

struct SparseList {
  int channels = 1;  // input channels a block
  int blocks = 0, outputs = 0;
  std::vector<int32_t> ends;  // [blocks][outputs + 1]
  std::vector<int32_t> list;  // nnz offsets in bytes, or nnz + kIndexAhead pairs

  const int32_t* ends_of(int block) const { return ends.data() + int64_t{block} * (outputs + 1); }
  bool empty() const { return ends.back() == 0; }
  int64_t bytes() const { return 4 * static_cast<int64_t>(ends.capacity() + list.capacity()); }
};

// row_starts: outputs + 1 positions in packed order.
SparseList forward_list(const ConvShape&, const MaskView&, const ConvPass&, int channels,
                        std::vector<int32_t>* row_starts);
std::vector<SparseList> dgrad_lists(const ConvShape&, const MaskView&, const std::vector<ConvPass>&,
                                    int channels, const SparseList& forward);

}  // namespace rp
