// Places buffers in one arena by liveness.
#pragma once
#include <cstdint>
#include <vector>

namespace rp {
namespace cpu {

struct Buffer {
  int64_t floats;
  int birth, death;  // first and last moment of use, both inclusive
  int64_t offset = 0;
};

// Fills `offset`s, 64-byte aligned; returns the floats of the arena. Largest first, each at the lowest place
// free during its whole life.
int64_t place(std::vector<Buffer>& buffers);

}  // namespace cpu
}  // namespace rp
