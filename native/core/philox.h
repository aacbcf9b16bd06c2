// Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011: "Parallel random numbers: as easy as 1, 2, 3"): a
// counter-based generator. A draw is a pure function of (key, counter), so it depends on no other draw, no
// thread count and no worker; resuming in mid-epoch needs no state. Tested against Random123's published
// vectors.
//
// Keying (docs/decisions/0010): key = the 64-bit seed; counter =
//   word 0       block, low 32 bits (a block is four words)
//   word 1       index: the sample, parameter or chunk that the draws belong to
//   word 2       epoch: epoch or stream, 0 where there is none
//   word 3       purpose (top 8 bits) · block, high 24 bits
// Two draws share bits only if all of these agree.
#pragma once
#include <array>
#include <cstdint>

namespace rp {

using PhiloxWords = std::array<uint32_t, 4>;

inline PhiloxWords philox4x32_10(PhiloxWords counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; round++) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(product0)};
    key0 += 0x9E3779B9u;  // golden ratio
    key1 += 0xBB67AE85u;  // sqrt(3) - 1
  }
  return counter;
}

// What random numbers are for. The values are part of every seeded result: append, never renumber.
// src/random.ts has the same list for TypeScript.
enum class Purpose : uint8_t {
  kInitialWeights = 1,   // index: parameter
  kMask = 2,             // index: parameter
  kShuffle = 3,          // order of an epoch; epoch: epoch
  kAugmentation = 4,     // epoch: epoch, index: sample
  kSyntheticImages = 5,  // index: sample
  kSaliencyWeights = 6,  // Xavier copies of SNIP and GraSP (SPEC 2.5, 2.6); index: parameter
  kSaliencyBatch = 7,    // which images SNIP and GraSP see
  kLabels = 8,           // labels of generated images; index: sample
};

// The draws of one (seed, purpose, epoch, index). `block` is random access; the other members read the blocks
// in order, word by word.
class Draws {
 public:
  Draws(uint64_t seed, Purpose purpose, uint32_t epoch = 0, uint32_t index = 0)
      : key0_(static_cast<uint32_t>(seed)),
        key1_(static_cast<uint32_t>(seed >> 32)),
        purpose_(static_cast<uint32_t>(purpose) << 24),
        epoch_(epoch),
        index_(index) {}

  // Four words; block < 2^56.
  PhiloxWords block(uint64_t block) const {
    return philox4x32_10(
        {static_cast<uint32_t>(block), index_, epoch_, purpose_ | static_cast<uint32_t>(block >> 32)}, key0_,
        key1_);
  }

  uint32_t next() {
    if (position_ == 4) {
      words_ = block(next_block_++);
      position_ = 0;
    }
    return words_[position_++];
  }

  uint64_t next64() {
    const uint64_t low = next();
    return low | uint64_t{next()} << 32;
  }

  // In [0, 1), a multiple of 2^-24: exact in float.
  float uniform_float() { return static_cast<float>(next() >> 8) * 0x1p-24f; }

  // In [0, 1), a multiple of 2^-53.
  double uniform() { return static_cast<double>(next64() >> 11) * 0x1p-53; }

  // In [0, n), without bias (Lemire 2019: multiply, reject the short remainder). 1 <= n.
  uint32_t below(uint32_t n) {
    uint64_t product = uint64_t{next()} * n;
    if (static_cast<uint32_t>(product) < n) {
      const uint32_t short_of = (0u - n) % n;  // 2^32 mod n
      while (static_cast<uint32_t>(product) < short_of) product = uint64_t{next()} * n;
    }
    return static_cast<uint32_t>(product >> 32);
  }

 private:
  uint32_t key0_, key1_, purpose_, epoch_, index_;
  uint64_t next_block_ = 0;
  int position_ = 4;
  PhiloxWords words_{};
};

}  // namespace rp
