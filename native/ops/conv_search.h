// The measured search for a layer's tiles. Candidates come best first from the cost model of the layer's
// kind; each is built and timed on the layer's own channels and mask, on fewer rows and images where the
// whole layer would take long, in tensors that no cache holds, as a step's (search_memory.h).
#pragma once
#include <string>

#include "ops/conv.h"
#include "ops/search_memory.h"

namespace rp {

struct ConvSearched {
  std::string choice;   // ConvOptions.choice
  std::string figures;  // "forward 118 dgrad 107 wgrad 106 GFLOP/s": useful, measured on what was searched
};

// Layers of equal key share a choice: their shape, the density to a quarter of a power of two, the passes
// planned and the images, those of a part counted as such. Not the threads, so that a choice made once serves
// any number of them.
std::string conv_search_key(const ConvShape&, const MaskView&, const ConvLayouts&, int max_blocks);

class ConvSearch {
 public:
  // cancel: search throws soon after it becomes non-zero; or null.
  explicit ConvSearch(ThreadTeam&, const volatile int32_t* cancel = nullptr);
  // options.choice is ignored.
  ConvSearched search(const ConvShape&, const MaskView&, const ConvLayouts&, const ConvOptions&);

 private:
  ThreadTeam& team_;
  SearchMemory memory_;
  const volatile int32_t* cancel_;
};

}  // namespace rp
