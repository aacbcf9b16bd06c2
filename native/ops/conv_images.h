// Wgrad by parts of the images: each part's sums stand for themselves and are added in the end, in one order,
// whatever the number of threads. For layers with few weights beside their inputs: threads that share the
// weights instead all read the whole of x or dy.
#pragma once
#include <algorithm>
#include <cstdint>

#include "cpu/threads.h"

namespace rp {

constexpr int kImageParts = 8;  // at most

// So many threads beyond the parts share the weights of each.
inline int sharing_threads(int threads) { return (threads + kImageParts - 1) / kImageParts; }

// A weight gradient over tiles [first, last) of a batch.
struct WgradRun {
  const float *x, *dy;
  float* dw;  // packed
  int blocks;
  bool add;
  int64_t first, last;
};

// The whole run, which begins at tile 0, of so many groups of image blocks and weights. wgrad(run, share,
// member) computes one of `shares` shares of the weights of a part. sums: kImageParts · weights floats, of
// which dw may be the first where nothing is added to it.
template <class Wgrad>
void wgrad_by_images(const WgradRun& whole, int64_t groups, int64_t weights, int64_t shares, float* sums,
                     ThreadTeam& team, const Wgrad& wgrad) {
  const int64_t parts = std::min<int64_t>(kImageParts, groups), tiles = whole.last / groups;
  team.parallel_range(parts * shares, [&](int64_t begin, int64_t end, int member) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t part = i / shares;
      WgradRun run = whole;
      run.dw = sums + part * weights;
      run.add = false;
      run.first = groups * part / parts * tiles;
      run.last = groups * (part + 1) / parts * tiles;
      wgrad(run, i % shares, member);
    }
  });
  team.parallel_range(weights, [&](int64_t begin, int64_t end, int) {
    for (int64_t j = begin; j < end; j++) {
      float sum = whole.add ? whole.dw[j] : 0;
      for (int64_t part = 0; part < parts; part++) sum += sums[part * weights + j];
      whole.dw[j] = sum;
    }
  });
}

}  // namespace rp
