// conv: the three passes of one convolution layer, prepared once for a static mask, in the CPU layout
// (core/layout.h). Linear layers are 1x1 convolutions on 1x1 maps of C*H*W channels.
//
//   forward  y[n,k,p,q]  = Σ_{c,r,s} w[k,c,r,s] · x[n,c,p·st+r-pad,q·st+s-pad]
//   dgrad    dx[n,c,h,w] = Σ w[k,c,r,s] · dy[n,k,p,q]   over p·st+r-pad = h, q·st+s-pad = w
//   wgrad    dw[k,c,r,s] = Σ_{n,p,q} dy[n,k,p,q] · x[…]   at the kept weights only
//
// Values and gradients cross as packed arrays: kept elements in ascending OIHW order. Only a layer that keeps
// most of its weights may hold them as a dense array (suits_dense). Results do not depend on the number of
// threads.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/layout.h"
#include "cpu/features.h"
#include "ops/row_work.h"

namespace rp {

class ThreadTeam;

struct ConvShape {
  int in_channels, out_channels;
  int in_height, in_width;
  int kernel_h, kernel_w;
  int stride, padding;
  int out_height() const { return (in_height + 2 * padding - kernel_h) / stride + 1; }
  int out_width() const { return (in_width + 2 * padding - kernel_w) / stride + 1; }
  int64_t numel() const { return int64_t{out_channels} * in_channels * kernel_h * kernel_w; }
};

// Kept positions: bit i & 7 of byte i >> 3 is element i (OIHW); null bits: all kept.
struct MaskView {
  const uint8_t* bits = nullptr;
  int64_t nnz = 0;
};

// Borders that the passes read: the layouts given to make_conv must have at least these.
int conv_input_border(const ConvShape&);  // of x, by forward and wgrad
int conv_dy_border(const ConvShape&);     // of dy, by dgrad

struct ConvLayouts {
  Layout x, y;    // forward: x is read, y written
  Layout dy, dx;  // dgrad: dy read, dx written; wgrad reads x and dy. dx may be unset when has_dgrad is false
  bool has_dgrad = true;
  bool has_wgrad = true;
  // Forward's x, or dgrad's and wgrad's dy, is made in turns (ConvCompanions::input): none of their tiles may
  // lie across image blocks.
  bool makes_x = false, makes_dy = false;
};

// One set of weight values in the order that the kernels read: the layer's own, or a tangent direction.
class ConvWeights {
 public:
  virtual ~ConvWeights() = default;
};

// Where forward leaves Σ y and Σ y² per output channel, for batch norm's statistics: rows of [2][C], as many
// as sum_rows says, whose sum is over all positions of `images` images (the last block, or the parts of the
// last image block, may hold fewer than sixteen).
struct ConvSums {
  double* sums;
  int images;
};

// What a pass does with its output, by its phases (of dgrad: dgrad_passes; forward has one), a bit each: adds
// to it, or leaves alone what would be zero there, since no tap reaches it. Others are written.
struct PhaseWrite {
  uint64_t add = 0, leave = 0;
};
constexpr PhaseWrite kWriteAll = {0, 0}, kAddToAll = {~uint64_t{0}, 0};
// The phases that some tap reaches; all of them where there are more than bits.
uint64_t reached_phases(const ConvShape&, const ConvLayouts&);

// What dgrad and wgrad of a layer read and write when they run together. Companions are dgrad's.
struct ConvBackward {
  const float *x = nullptr, *dy = nullptr;  // dy null: made by a companion
  const RowWork* makes_x = nullptr;         // instead of x, in memory of each thread
  float* const* made_x = nullptr;
  float* dx = nullptr;
  PhaseWrite write_dx = kWriteAll;
  float* dw = nullptr;
  bool add_dw = false;
  ConvCompanions beside;
  double* wgrad_microseconds = nullptr;  // not null: what the first thread spends on wgrad is added
};

class ConvLayer {
 public:
  virtual ~ConvLayer() = default;

  virtual std::unique_ptr<ConvWeights> make_weights() const = 0;
  // Permutes packed values (nnz) into the kernels' order; once an update.
  virtual void pack(const float* values, ConvWeights&, ThreadTeam&) const = 0;

  // Over the first `blocks` blocks: image blocks, or their parts (core/layout.h). Only interior positions are
  // written, never borders. add: y += instead of =. Companions take turns with the tiles where rows stay in
  // the caches and image blocks can be shared out evenly, else run before and after the pass.
  virtual void forward(const float* x, const ConvWeights&, float* y, int blocks, bool add, ThreadTeam&,
                       const ConvSums* = nullptr, const ConvCompanions& = {}) const = 0;
  virtual int64_t sum_rows(int blocks) const = 0;
  virtual void dgrad(const float* dy, const ConvWeights&, float* dx, int blocks, PhaseWrite, ThreadTeam&,
                     const ConvCompanions& = {}) const = 0;
  // dw: packed, nnz values; add: dw += instead of =.
  virtual void wgrad(const float* x, const float* dy, float* dw, int blocks, bool add, ThreadTeam&) const = 0;
  // Both: by one kernel, where the choice says so; else, of a layer that has_joint_backward and whose dy is
  // made in turns, a few rows at a time, so that dy is made, read by either and forgotten; else one after the
  // other. But for the kernel that does both, with the same bits.
  virtual bool one_backward_kernel() const = 0;
  virtual void backward(const ConvBackward&, const ConvWeights&, int blocks, ThreadTeam&) const = 0;

  // Bytes held by this object, by one ConvWeights, and scratch (all threads). Scratch is shared by all layers
  // of a team: the largest counts, not the sum.
  virtual int64_t index_bytes() const = 0;
  virtual int64_t weights_bytes() const = 0;
  virtual int64_t scratch_bytes() const = 0;

  // The measured or forced choices as one line, "forward=2x8/24 dgrad=… wgrad=…"; equal text gives equal
  // results. "dense " in front: a masked layer on the dense kernels.
  virtual std::string choice() const = 0;
  // Names of the kernels chosen: "sparse_conv2d_avx512".
  virtual std::string kernel() const = 0;
};

struct ConvOptions {
  std::string choice;    // replay this choice; empty: choose
  bool measure = false;  // choose by a short measured search instead of by the model
  int max_blocks = 1;    // blocks of the largest batch
  std::string isa;       // force "avx512", "avx2" or "portable"; empty: cpu_isa() (cpu/features.h)
};

// mask.bits null: the dense kernels. They also compute masked layers that suit them (suits_dense), where the
// choice says so. Throws rp::Error when a layout is too small for the shape or the choice
// text does not fit.
std::unique_ptr<ConvLayer> make_conv(const ConvShape&, const MaskView&, const ConvLayouts&,
                                     const ConvOptions&, ThreadTeam&);

// Whether make_conv would follow this choice.
bool conv_takes(const ConvShape&, const MaskView&, const ConvLayouts&, const std::string& choice, Isa);

// log2 of the mask's density, in quarters, rounded: what the search tells layers apart by (conv_search.h).
// nnz > 0.
int density_quarters(const ConvShape&, const MaskView&);

// Whether the dense kernels may compute a masked layer: so many weights are kept (65 %) that computing them
// all takes less time than skipping the others, and two packed copies fit 28 bytes a kept one.
bool suits_dense(const ConvShape&, const MaskView&);

// Whether a pass's input may be made in turns (ConvCompanions::input): an image fills tiles by itself, and
// the rows that a band of them works on stay in the thread's caches.
bool forward_takes_turns(const ConvShape&, const ConvLayouts&);
// And whether dgrad and wgrad may run together.
bool has_joint_backward(const ConvShape&, const MaskView&, const ConvLayouts&);

// "64x32x3x3 stride 1 padding 1 on 16x16"
std::string shape_text(const ConvShape&);

// Upper bound of one ConvWeights.
int64_t conv_weights_bytes(const ConvShape&, const MaskView&, const ConvLayouts&);

// Upper bound of what make_conv and one ConvWeights would hold, for so many blocks at most, without building
// them; threads 0: without scratch.
int64_t conv_bytes(const ConvShape&, const MaskView&, const ConvLayouts&, int threads, int max_blocks);

}  // namespace rp
