// Bilinear resampling with anti-aliasing, as PIL (and so torchvision on PIL images) does it: a triangle
// filter whose support grows with the down-scaling factor, rows and columns separately, weights renormalised
// at the borders. Differs from PIL: no rounding to bytes between or after the two passes.
#pragma once
#include <cstdint>
#include <vector>

namespace rp {

// A rectangle of pixels.
struct Box {
  int top, left, height, width;
};

class Resampler {
 public:
  // Resizes `box` of `plane` (any rows, `stride` bytes apart) to full_height x full_width and writes the
  // pixels of `window` of that result to out (window.height, window.width), still on the byte scale.
  void resize(const uint8_t* plane, int stride, const Box& box, int full_height, int full_width,
              const Box& window, float* out);

 private:
  // Taps of one axis: output i reads weights[i * width + k] of input first[i] + k, k < count[i].
  struct Axis {
    int width = 0;
    std::vector<int> first, count;
    std::vector<float> weights;
    void build(int in, int full, int begin, int outputs);
  };
  Axis rows_, columns_;
  std::vector<float> partial_;  // (input rows needed, window.width)
};

}  // namespace rp
