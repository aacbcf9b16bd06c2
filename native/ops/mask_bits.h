// Walks a mask's bits: bit i & 7 of byte i >> 3 is element i.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

namespace rp {

// visit(i) for every set bit i of [begin, end), ascending.
template <class Visit>
void for_each_bit(const uint8_t* bits, int64_t begin, int64_t end, const Visit& visit) {
  for (int64_t at = begin / 8 * 8; at < end; at += 64) {
    uint64_t word = 0;
    std::memcpy(&word, bits + at / 8, std::min<int64_t>(8, (end - at + 7) / 8));
    if (at < begin) word &= ~uint64_t{0} << (begin - at);
    if (at + 64 > end) word &= ~uint64_t{0} >> (at + 64 - end);
    for (; word != 0; word &= word - 1) visit(at + __builtin_ctzll(word));
  }
}

}  // namespace rp
