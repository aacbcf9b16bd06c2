// The dense peer: oneDNN's fp32 convolution primitives, each in the format that it prefers, tensors reordered
// once.
#pragma once
#include <memory>
#include <string>

#include "ops/conv.h"

namespace rp_bench {

class OneDnnPeer {
 public:
  // images: the batch. Throws dnnl::error where oneDNN has no such primitive.
  OneDnnPeer(int images, const rp::ConvShape&);
  ~OneDnnPeer();
  void forward();
  void dgrad();
  void wgrad();
  static std::string version();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace rp_bench
