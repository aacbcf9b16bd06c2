// What the ops of the reference engine compute on: activations, parameters, and the arena both live in.
//
// The reference engine is the specification of all others: float64, plain loops, any graph. Its layout is
// channel first, then image: (C, n, H, W). The row of a channel, n*H*W doubles, is what batch norm takes
// statistics of, and a set of rows is a matrix that a convolution multiplies.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine_abi.h"

namespace rp::reference {

// Hands out zeroed arrays, or only counts them: a plan of memory runs the very constructors that allocate, so
// it cannot differ from what they take.
class Arena {
 public:
  explicit Arena(bool counting) : counting_(counting) {}

  // Null while counting.
  template <class T>
  T* take(int64_t count) {
    bytes_ += count * static_cast<int64_t>(sizeof(T));
    if (counting_) return nullptr;
    blocks_.emplace_back(std::calloc(count > 0 ? count : 1, sizeof(T)));
    if (!blocks_.back()) throw std::bad_alloc();
    return static_cast<T*>(blocks_.back().get());
  }
  bool counting() const { return counting_; }
  int64_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(void* block) const { std::free(block); }
  };
  bool counting_;
  int64_t bytes_ = 0;
  std::vector<std::unique_ptr<void, Free>> blocks_;
};

// Which arrays a session's programs need.
struct Needs {
  bool backward;             // activation gradients
  bool parameter_gradients;  // parameter gradients
  bool momentum;             // update
  bool tangent;              // directional derivatives of everything

  explicit Needs(uint32_t programs)
      : backward(programs & ~uint32_t{RP_PROGRAM_EVAL}),
        parameter_gradients(programs & (RP_PROGRAM_TRAIN | RP_PROGRAM_TANGENT)),
        momentum(programs & RP_PROGRAM_TRAIN),
        tangent(programs & RP_PROGRAM_TANGENT) {}
};

// The output of a node. Every array is (C, n, H, W) for the n of the current batch, or null where no program
// needs it. A dot in a comment is a derivative along the direction v of the parameters: ẏ = dy/dθ · v.
struct Activation {
  int channels = 0, height = 0, width = 0;
  double* value = nullptr;             // y
  double* gradient = nullptr;          // dy = dL/dy; consumers add to it
  double* tangent = nullptr;           // ẏ
  double* gradient_tangent = nullptr;  // the tangent of dy; consumers add to it

  int64_t pixels() const { return int64_t{height} * width; }
  int64_t row(int n) const { return n * pixels(); }  // elements of one channel in a batch of n
  int64_t size(int n) const { return channels * row(n); }
};

// A parameter, stored dense with zeros at pruned positions, as in the paper's code (SPEC 3.4). Its gradient
// and momentum are packed: kept positions only, in ascending row-major order.
struct Parameter {
  std::string name;
  int64_t numel = 0, nnz = 0;
  double weight_decay = 0;
  int64_t* kept = nullptr;             // nnz positions, ascending; null: all
  double* value = nullptr;             // numel
  double* direction = nullptr;         // numel; v
  double* gradient = nullptr;          // nnz, a slice of the session's one gradient buffer
  double* gradient_tangent = nullptr;  // nnz, likewise
  double* momentum = nullptr;          // nnz

  int64_t position(int64_t j) const { return kept ? kept[j] : j; }
  // packed[j] += dense[position(j)]: a gradient computed everywhere, reported where the mask keeps.
  void add_kept(const double* dense, double* packed) const {
    for (int64_t j = 0; j < nnz; j++) packed[j] += dense[position(j)];
  }
};

}  // namespace rp::reference
