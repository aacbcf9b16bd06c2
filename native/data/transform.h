// From a stored uint8 image to what a network reads: augmentation, then scale to [0, 1], then (x - mean) /
// std per channel (SPEC 3.2). The draws of an image depend on (seed, epoch, image index) alone.
#pragma once
#include <cstdint>
#include <vector>

#include "data/image_set.h"
#include "data/resample.h"

namespace rp {

struct TransformSpec {
  enum class Kind {
    kCrop,         // training: pad, crop back to the stored size, flip; test: as stored. CIFAR.
    kResizedCrop,  // training: random resized crop, flip; test: resize shorter side, centre crop. ImageNet.
  };
  Kind kind = Kind::kCrop;
  int pad = 4;  // kCrop
  bool reflect =
      false;       // kCrop: mirror without repeating the edge pixel; otherwise black before normalisation
  int size = 224;  // kResizedCrop: side of the output
  std::vector<double> mean, std;  // one a channel, on the [0, 1] scale
};

// Key of one image's draws.
struct AugmentKey {
  uint64_t seed;
  uint32_t epoch;
  uint32_t image;  // index in its set, so that neither order nor split changes its draws
};

class Transform {
 public:
  // Checks the spec against the stored shape.
  Transform(const TransformSpec& spec, const ImageShape& stored);

  const ImageShape& output() const { return output_; }

  // Working memory of one thread.
  struct Scratch {
    std::vector<uint8_t> rendered;  // (C, H, W) of a lazily rendered image
    std::vector<uint8_t> line;      // kCrop: one padded row
    Resampler resampler;
  };
  Scratch make_scratch() const;

  // image: stored (C, H, W). out: output() floats. key: null for the test transform.
  void apply(const uint8_t* image, const AugmentKey* key, Scratch& scratch, float* out) const;

 private:
  void crop(const uint8_t* image, int top, int left, bool flip, Scratch& scratch, float* out) const;

  TransformSpec spec_;
  ImageShape stored_, output_;
  std::vector<float> table_;  // (C, 256): the normalised value of every byte
};

// Random resized crop as torchvision draws it: area share 0.08 .. 1, log-uniform aspect ratio 3/4 .. 4/3, ten
// tries, then the largest centred crop whose aspect ratio is allowed.
class Draws;
Box random_resized_box(int height, int width, Draws& draws);

}  // namespace rp
