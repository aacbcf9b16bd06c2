#include "engine/cpu/liveness.h"

#include <algorithm>
#include <numeric>

namespace rp {
namespace cpu {

int64_t place(std::vector<Buffer>& buffers) {
  std::vector<size_t> order(buffers.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return buffers[a].floats > buffers[b].floats; });
  std::vector<const Buffer*> placed;  // by offset
  int64_t arena = 0;
  for (const size_t index : order) {
    Buffer& buffer = buffers[index];
    const int64_t floats = (buffer.floats + 15) / 16 * 16;
    int64_t at = 0;
    for (const Buffer* other : placed) {
      if (other->death < buffer.birth || buffer.death < other->birth) continue;
      if (other->offset >= at + floats) break;
      at = std::max(at, other->offset + (other->floats + 15) / 16 * 16);
    }
    buffer.offset = at;
    arena = std::max(arena, at + floats);
    const auto where =
        std::upper_bound(placed.begin(), placed.end(), &buffer,
                         [](const Buffer* a, const Buffer* b) { return a->offset < b->offset; });
    placed.insert(where, &buffer);
  }
  return arena;
}

}  // namespace cpu
}  // namespace rp
