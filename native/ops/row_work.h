// Elementwise work that takes turns with the tiles of a convolution's pass, on the thread whose caches hold
// the rows: what makes the rows that the next tiles read, and what reads those that the last ones wrote. As
// passes of their own they would send every row to memory and fetch it again.
#pragma once
#include <algorithm>
#include <cstdint>

#include "core/layout.h"
#include "cpu/threads.h"

namespace rp {

class RowWork;

// Rows [begin, end) of a block.
struct RowRange {
  int block = 0, begin = 0, end = 0;
};

// A thread's turn at some work.
struct RowTurn {
  int member = 0;
  bool alone = false;  // as a pass of its own, so that nobody reads the rows soon
  // Whose sources are to be fetched meanwhile, for these of its rows; null: none.
  const RowWork* next = nullptr;
  RowRange next_rows = {};
};

// Over the rows of an activation, cut into items of `step` rows of a block (fewer at its end), block-major.
// Items may run in any order and on any thread.
class RowWork {
 public:
  static constexpr int kMostSources = 2;

  // body(begin, end, turn) does items [begin, end); it must outlive the work.
  template <class Body>
  RowWork(const Layout& rows, int step, const Body& body)
      : rows_(rows),
        step_(step),
        body_(&body),
        call_([](const void* b, int64_t begin, int64_t end, const RowTurn& turn) {
          (*static_cast<const Body*>(b))(begin, end, turn);
        }) {}

  // A tensor of the same positions that it reads, worth fetching early.
  void reads(const float* x, const Layout& layout) { sources_[source_count_++] = {x, layout}; }
  struct Source {
    const float* x;
    Layout layout;
  };
  bool reads(const float* x) const {
    return std::any_of(begin(), end(), [&](const Source& source) { return source.x == x; });
  }
  const Source* begin() const { return sources_; }
  const Source* end() const { return sources_ + source_count_; }

  void run(int64_t begin, int64_t end, const RowTurn& turn) const { call_(body_, begin, end, turn); }
  // All of it, as a pass of its own.
  void run_all(int blocks, ThreadTeam& team) const {
    team.parallel_range(blocks * per_block(), [&](int64_t begin, int64_t end, int member) {
      call_(body_, begin, end, {member, true});
    });
  }

  const Layout& rows() const { return rows_; }
  int64_t per_block() const { return (rows_.height + step_ - 1) / step_; }
  // Items that lie within the first `rows` rows of a block, and that reach into them.
  int64_t within(int rows) const { return rows >= rows_.height ? per_block() : rows / step_; }
  int64_t reaching(int rows) const { return (std::clamp(rows, 0, rows_.height) + step_ - 1) / step_; }

 private:
  Layout rows_;
  int step_;
  Source sources_[kMostSources];
  int source_count_ = 0;
  const void* body_;
  void (*call_)(const void*, int64_t, int64_t, const RowTurn&);
};

// What runs beside a pass; null: nothing.
struct ConvCompanions {
  const RowWork* before = nullptr;  // makes the rows that the pass reads, borders included
  const RowWork* after = nullptr;   // reads rows that it has written
  // Of each thread, where `before` makes its image blocks, one after another: what the pass reads is nowhere
  // stored. Null: it is.
  float* const* input = nullptr;
  // With `input`: reads rows that `before` has made. One thread has all image blocks of a part
  // (conv_images.h).
  const RowWork* reads_input = nullptr;
};

// How far one thread is with its share of a work's items.
class RowProgress {
 public:
  RowProgress() = default;
  RowProgress(const RowWork* work, int64_t begin, int64_t end, int member)
      : work_(work), done_(begin), end_(end), member_(member) {}

  const RowWork* work() const { return work_; }  // null: none
  int64_t done() const { return done_; }
  int64_t end() const { return end_; }
  void advance(int64_t item, const RowWork* next = nullptr, const RowRange& next_rows = {}) {
    item = std::min(item, end_);
    if (item <= done_) return;
    work_->run(done_, item, {member_, false, next, next_rows});
    done_ = item;
  }
  void advance_to_block(int64_t block) {
    if (work_ != nullptr) advance(block * work_->per_block());
  }

 private:
  const RowWork* work_ = nullptr;
  int64_t done_ = 0, end_ = 0;
  int member_ = 0;
};

}  // namespace rp
