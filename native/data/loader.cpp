#include "data/loader.h"

#include <algorithm>
#include <numeric>

#include "core/philox.h"
#include "core/random.h"
#include "cpu/threads.h"

namespace rp {
namespace {

// Prepared micro-batches kept at once: as many as fit in this, 2 to 8.
constexpr int64_t kRingBytes = int64_t{32} << 20;
// Bytes of output a worker prepares between two looks at the queue: long enough that the lock costs nothing,
// short enough that workers share one large batch.
constexpr int64_t kChunkBytes = int64_t{1} << 19;

constexpr int64_t kMaxStep = int64_t{1} << 40;

int default_workers() { return std::clamp(available_cores() / 4, 1, 8); }

}  // namespace

Loader::Loader(std::shared_ptr<const ImageSet> images, const LoaderSpec& spec)
    : set_(std::move(images)), spec_(spec), transform_(spec.transform, set_->shape()) {
  if (spec.from < 0 || spec.to > set_->count() || spec.from >= spec.to || spec.to > INT64_C(0xFFFFFFFF))
    fail("[loader] expected a range inside [0, %lld), got [%lld, %lld).",
         static_cast<long long>(set_->count()), static_cast<long long>(spec.from),
         static_cast<long long>(spec.to));
  if (spec.batch_size < 1 || spec.accumulate < 1 || spec.workers < 0 || spec.workers > 256)
    fail("[loader] expected batchSize and accumulate of at least 1 and 0 to 256 workers, got %d, %d and %d.",
         spec.batch_size, spec.accumulate, spec.workers);
  const int64_t group = int64_t{spec.batch_size} * spec.accumulate;
  steps_per_epoch_ = spec.drop_last ? this->images() / group : (this->images() + group - 1) / group;
  if (steps_per_epoch_ == 0)
    fail("[loader] expected at least one whole batch of %lld images, got %lld images.",
         static_cast<long long>(group), static_cast<long long>(this->images()));

  const int64_t image_bytes = output().bytes() * 4;
  // No batch is larger than the split.
  const int64_t largest = std::min<int64_t>(spec.batch_size, this->images()),
                batch_bytes = largest * image_bytes;
  chunk_ = static_cast<int32_t>(std::clamp<int64_t>(kChunkBytes / image_bytes, 1, largest));
  slots_.resize(static_cast<size_t>(std::clamp<int64_t>(kRingBytes / batch_bytes, 2, 8)));
}

Loader::~Loader() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

int64_t Loader::resident_bytes() const {
  return static_cast<int64_t>(slots_.size()) * std::min<int64_t>(spec_.batch_size, images()) *
         output().bytes() * 4;
}

MicroBatch Loader::size(int64_t step, int32_t micro) const {
  if (step < 0 || step > kMaxStep || micro < 0)
    fail("[loader] expected a step from 0 to 2^40 and micro from 0, got %lld and %d.",
         static_cast<long long>(step), micro);
  const int64_t group = int64_t{spec_.batch_size} * spec_.accumulate;
  const int64_t first = step % steps_per_epoch_ * group, in_step = std::min(group, images() - first);
  const int64_t begin = std::min(in_step, int64_t{micro} * spec_.batch_size);
  const int64_t n = std::min<int64_t>(spec_.batch_size, in_step - begin);
  return {static_cast<int32_t>(n), static_cast<double>(n) / static_cast<double>(in_step)};
}

Loader::Order Loader::order(int64_t epoch) const {
  std::lock_guard<std::mutex> lock(order_mutex_);
  for (const auto& known : orders_)
    if (known.first == epoch) return known.second;
  auto made = std::make_shared<std::vector<uint32_t>>(static_cast<size_t>(images()));
  fill_permutation(Draws(spec_.seed, Purpose::kShuffle, static_cast<uint32_t>(epoch)),
                   static_cast<uint32_t>(images()), made->data());
  if (orders_.size() == 3) orders_.erase(orders_.begin());
  orders_.emplace_back(epoch, made);
  return made;
}

void Loader::prepare_range(int64_t step, int32_t micro, int32_t begin, int32_t end,
                           Transform::Scratch& scratch, float* images, int32_t* labels) const {
  const int64_t epoch = step / steps_per_epoch_;
  const int64_t first = (step % steps_per_epoch_ * spec_.accumulate + micro) * spec_.batch_size;
  const Order shuffled = spec_.shuffle ? order(epoch) : nullptr;
  for (int32_t i = begin; i < end; i++) {
    const int64_t index = spec_.from + (shuffled ? (*shuffled)[static_cast<size_t>(first + i)] : first + i);
    const AugmentKey key{spec_.seed, static_cast<uint32_t>(epoch), static_cast<uint32_t>(index)};
    transform_.apply(set_->image(index, scratch.rendered.data()), spec_.augment ? &key : nullptr, scratch,
                     images + i * output().bytes());
    labels[i] = set_->label(index);
  }
}

void Loader::prepare(int64_t step, int32_t micro, float* images, int32_t* labels) const {
  Transform::Scratch scratch = transform_.make_scratch();
  prepare_range(step, micro, 0, size(step, micro).n, scratch, images, labels);
}

// Takes the next images nobody prepares yet; false when the ring is full. Under the lock.
bool Loader::claim(int64_t* index, int32_t* begin, int32_t* end) {
  while (!paused_ && next_ < base_ + static_cast<int64_t>(slots_.size())) {
    Slot& target = slot(next_);
    if (target.index != next_) {
      target.index = next_;
      target.n = size_of(next_).n;
      target.claimed = target.done = 0;
    }
    if (target.claimed < target.n) {
      *index = next_;
      *begin = target.claimed;
      *end = target.claimed = std::min(target.n, target.claimed + chunk_);
      return true;
    }
    next_++;
  }
  return false;
}

void Loader::work() {
  std::unique_lock<std::mutex> lock(mutex_);
  try {
    lock.unlock();
    Transform::Scratch scratch = transform_.make_scratch();
    lock.lock();
    while (!stopping_) {
      int64_t index;
      int32_t begin, end;
      if (!claim(&index, &begin, &end)) {
        work_.wait(lock);
        continue;
      }
      Slot& target = slot(index);
      if (target.images
              .empty()) {  // allocated by the first use, so that short runs do not pay for the whole ring
        const size_t largest = static_cast<size_t>(max_batch());
        target.images.resize(largest * static_cast<size_t>(output().bytes()));
        target.labels.resize(largest);
      }
      active_++;
      lock.unlock();
      prepare_range(index / spec_.accumulate, static_cast<int32_t>(index % spec_.accumulate), begin, end,
                    scratch, target.images.data(), target.labels.data());
      lock.lock();
      active_--;
      target.done += end - begin;
      if (target.done == target.n || paused_) ready_.notify_all();
    }
  } catch (...) {
    if (!lock.owns_lock()) lock.lock();
    failure_ = std::current_exception();
    ready_.notify_all();
  }
}

// Points the ring at `index`, once the workers have let go of what they were preparing.
void Loader::restart(int64_t index, std::unique_lock<std::mutex>& lock) {
  paused_ = true;
  ready_.wait(lock, [&] { return active_ == 0 || failure_; });
  paused_ = false;
  for (Slot& each : slots_) each.index = -1;
  base_ = next_ = index;
}

void Loader::fetch(int64_t step, int32_t micro, RpBatch* batch, double* weight) {
  const MicroBatch wanted = size(step, micro);
  *weight = wanted.weight;
  *batch = RpBatch{nullptr, 4, nullptr, wanted.n};
  if (wanted.n == 0) return;

  std::unique_lock<std::mutex> lock(mutex_);
  int64_t index = step * spec_.accumulate + micro;
  const int64_t ring = static_cast<int64_t>(slots_.size());
  if (!spec_.shuffle && !spec_.augment) {
    // Every epoch has the same bytes: what was read ahead past the end of one evaluation serves the next.
    const int64_t epoch = steps_per_epoch_ * spec_.accumulate;
    index = base_ + ((index - base_) % epoch + epoch) % epoch;
  }
  // Whatever lies between must be finished: its slots are about to be used again.
  bool ahead = index >= base_ && index < base_ + ring;
  for (int64_t i = base_; ahead && i < index; i++) ahead = slot(i).index == i && slot(i).done == slot(i).n;
  if (!ahead) restart(index, lock);
  base_ = index;
  if (threads_.empty()) {
    const int count = spec_.workers > 0 ? spec_.workers : default_workers();
    for (int i = 0; i < count; i++) threads_.emplace_back([this] { work(); });
  }
  work_.notify_all();
  Slot& target = slot(index);
  ready_.wait(lock, [&] { return failure_ || (target.index == index && target.done == target.n); });
  if (failure_) std::rethrow_exception(failure_);
  batch->images = target.images.data();
  batch->labels = target.labels.data();
}

}  // namespace rp
