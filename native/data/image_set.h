// ImageSet: labelled uint8 images of one size, (N, C, H, W), 0 black and 255 full. Resident in memory, or
// rendered on request (procedural.h). Immutable once made, so any number of threads may read it.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"

namespace rp {

struct ImageShape {
  int channels = 0, height = 0, width = 0;
  int64_t bytes() const { return int64_t{channels} * height * width; }
};

// What any reader may allocate, whatever a file claims.
constexpr int64_t kMaxSetBytes = int64_t{8} << 30;

class ImageSet {
 public:
  ImageSet(ImageShape shape, int classes, int64_t count) : shape_(shape), classes_(classes), count_(count) {}
  virtual ~ImageSet() = default;
  ImageSet(const ImageSet&) = delete;
  ImageSet& operator=(const ImageSet&) = delete;

  const ImageShape& shape() const { return shape_; }
  int classes() const { return classes_; }
  int64_t count() const { return count_; }
  virtual int64_t resident_bytes() const = 0;

  virtual int32_t label(int64_t index) const = 0;
  // Image `index`, (C, H, W): either resident, or rendered into `scratch` (shape().bytes() bytes).
  virtual const uint8_t* image(int64_t index, uint8_t* scratch) const = 0;

 private:
  ImageShape shape_;
  int classes_;
  int64_t count_;
};

class ResidentImageSet final : public ImageSet {
 public:
  // pixels: count x (C, H, W); count = labels.size().
  ResidentImageSet(ImageShape shape, int classes, std::vector<uint8_t> pixels, std::vector<int32_t> labels)
      : ImageSet(shape, classes, static_cast<int64_t>(labels.size())),
        pixels_(std::move(pixels)),
        labels_(std::move(labels)) {
    if (static_cast<int64_t>(pixels_.size()) != count() * this->shape().bytes())
      fail("[image set] expected %lld images of %lld bytes, got %zu bytes.", static_cast<long long>(count()),
           static_cast<long long>(this->shape().bytes()), pixels_.size());
    for (const int32_t label : labels_)
      if (label < 0 || label >= classes)
        fail("[image set] expected labels below %d, got %d.", classes, label);
  }

  int64_t resident_bytes() const override { return count() * (shape().bytes() + 4); }
  int32_t label(int64_t index) const override { return labels_[index]; }
  const uint8_t* image(int64_t index, uint8_t*) const override {
    return pixels_.data() + index * shape().bytes();
  }

 private:
  std::vector<uint8_t> pixels_;  // (N, C, H, W)
  std::vector<int32_t> labels_;  // (N)
};

}  // namespace rp
