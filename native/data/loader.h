// Loader: micro-batches of an image set, prepared ahead of the reader by threads of its own.
//
// Step s of the run is position s mod steps_per_epoch of epoch s / steps_per_epoch. An epoch's order is a
// permutation keyed by (seed, epoch), an image's augmentation by (seed, epoch, image index), so a batch
// depends on (step, micro) alone: not on the number of workers, nor on what was fetched before.
#pragma once
#include <algorithm>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "data/batch_source.h"
#include "data/image_set.h"
#include "data/transform.h"

namespace rp {

struct LoaderSpec {
  int64_t from = 0, to = 0;  // the images [from, to) of the set
  int32_t batch_size = 1;    // images of a micro-batch
  int32_t accumulate = 1;    // micro-batches of a step
  bool shuffle = false, augment = false, drop_last = false;
  uint64_t seed = 0;
  int workers = 0;  // 0: one for every four cores, 1 to 8
  TransformSpec transform;
};

// One micro-batch: n images of a step that has `step_images`; n = 0: the step has no such micro-batch.
struct MicroBatch {
  int32_t n = 0;
  double weight = 0;
};

class Loader final : public BatchSource {
 public:
  Loader(std::shared_ptr<const ImageSet> images, const LoaderSpec& spec);
  ~Loader() override;

  int64_t steps_per_epoch() const override { return steps_per_epoch_; }
  int32_t micros_per_step() const override { return spec_.accumulate; }
  int32_t max_batch() const override {
    return static_cast<int32_t>(std::min<int64_t>(spec_.batch_size, images()));
  }
  int64_t image_values() const override {
    return int64_t{output().channels} * output().height * output().width;
  }
  void fetch(int64_t step, int32_t micro, RpBatch* batch, double* weight) override;

  int64_t images() const { return spec_.to - spec_.from; }
  const ImageShape& output() const { return transform_.output(); }
  int64_t resident_bytes() const;

  // The same micro-batch, prepared by the caller's thread without touching the prefetched ones. `images` and
  // `labels` hold size(step, micro).n of each.
  MicroBatch size(int64_t step, int32_t micro) const;
  void prepare(int64_t step, int32_t micro, float* images, int32_t* labels) const;

 private:
  using Order = std::shared_ptr<const std::vector<uint32_t>>;

  // A prepared micro-batch, or one being prepared: `claimed` images are taken by workers, `done` are
  // finished.
  struct Slot {
    int64_t index = -1;  // step * accumulate + micro
    int32_t n = 0, claimed = 0, done = 0;
    std::vector<float> images;    // (batch_size, C, H, W)
    std::vector<int32_t> labels;  // (batch_size)
  };

  Order order(int64_t epoch) const;
  void prepare_range(int64_t step, int32_t micro, int32_t begin, int32_t end, Transform::Scratch& scratch,
                     float* images, int32_t* labels) const;
  void work();
  bool claim(int64_t* index, int32_t* begin, int32_t* end);
  void restart(int64_t index, std::unique_lock<std::mutex>& lock);
  Slot& slot(int64_t index) {
    return slots_[static_cast<size_t>(index % static_cast<int64_t>(slots_.size()))];
  }
  MicroBatch size_of(int64_t index) const {
    return size(index / spec_.accumulate, static_cast<int32_t>(index % spec_.accumulate));
  }

  const std::shared_ptr<const ImageSet> set_;
  LoaderSpec spec_;
  Transform transform_;
  int64_t steps_per_epoch_ = 0;
  int32_t chunk_ = 1;  // images a worker takes at a time

  mutable std::mutex order_mutex_;
  mutable std::vector<std::pair<int64_t, Order>> orders_;  // the epochs last asked for

  std::mutex mutex_;
  std::condition_variable work_, ready_;
  std::vector<Slot> slots_;  // a ring over [base_, base_ + slots)
  int64_t base_ = 0;         // the micro-batch that the reader holds
  int64_t next_ = 0;         // first one not wholly claimed
  int active_ = 0;           // workers outside the lock
  bool paused_ = false, stopping_ = false;
  std::exception_ptr failure_;
  std::vector<std::thread> threads_;
};

}  // namespace rp
