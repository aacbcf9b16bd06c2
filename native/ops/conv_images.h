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

// dw[0, count) (+)= the sums of all parts. wgrad(first, last, share, sums, member) writes a part's: of groups
// of image blocks [first, last), of one of `shares` shares of the weights. sums: kImageParts · count floats,
// of which dw may be the first where nothing is added to it.
template <class Wgrad>
void wgrad_by_images(int64_t groups, int64_t shares, int64_t count, float* sums, float* dw, bool add,
                     ThreadTeam& team, const Wgrad& wgrad) {
  const int64_t parts = std::min<int64_t>(kImageParts, groups);
  team.parallel_range(parts * shares, [&](int64_t begin, int64_t end, int member) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t part = i / shares;
      wgrad(groups * part / parts, groups * (part + 1) / parts, i % shares, sums + part * count, member);
    }
  });
  team.parallel_range(count, [&](int64_t begin, int64_t end, int) {
    for (int64_t j = begin; j < end; j++) {
      float sum = add ? dw[j] : 0;
      for (int64_t part = 0; part < parts; part++) sum += sums[part * count + j];
      dw[j] = sum;
    }
  });
}

}  // namespace rp
