#include "core/random.h"

#include <cmath>
#include <cstring>

#include "core/error.h"

namespace rp {
namespace {

// Horner, highest power first.
template <int N>
double polynomial(const double (&coefficients)[N], double x) {
  double value = coefficients[0];
  for (int i = 1; i < N; i++) value = value * x + coefficients[i];
  return value;
}

// AS 241, PPND16: numerators and denominators of its three rational approximations.
constexpr double kCentreTop[] = {2.5090809287301226727e+3, 3.3430575583588128105e+4, 6.7265770927008700853e+4,
                                 4.5921953931549871457e+4, 1.3731693765509461125e+4, 1.9715909503065514427e+3,
                                 1.3314166789178437745e+2, 3.3871328727963666080e+0};
constexpr double kCentreBottom[] = {
    5.2264952788528545610e+3, 2.8729085735721942674e+4, 3.9307895800092710610e+4, 2.1213794301586595867e+4,
    5.3941960214247511077e+3, 6.8718700749205790830e+2, 4.2313330701600911252e+1, 1.0};
constexpr double kTailTop[] = {7.74545014278341407640e-4, 2.27238449892691845833e-2,
                               2.41780725177450611770e-1, 1.27045825245236838258e+0,
                               3.64784832476320460504e+0, 5.76949722146069140550e+0,
                               4.63033784615654529590e+0, 1.42343711074968357734e+0};
constexpr double kTailBottom[] = {1.05075007164441684324e-9, 5.47593808499534494600e-4,
                                  1.51986665636164571966e-2, 1.48103976427480074590e-1,
                                  6.89767334985100004550e-1, 1.67638483018380384940e+0,
                                  2.05319162663775882187e+0, 1.0};
constexpr double kFarTop[] = {2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
                              2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e+0,
                              5.46378491116411436990e+0, 6.65790464350110377720e+0};
constexpr double kFarBottom[] = {2.04426310338993978564e-15, 1.42151175831644588870e-7,
                                 1.84631831751005468180e-5,  7.86869131145613259100e-4,
                                 1.48753612908506148525e-2,  1.36929880922735805310e-1,
                                 5.99832206555887937690e-1,  1.0};

// 2/(2k+1), k = 12 .. 1: log((1+s)/(1-s)) = 2s + s·Σ 2/(2k+1)·s^2k. |s| <= 0.1716, so the first term left out
// is below 2^-64 of the sum.
constexpr double kLogSeries[] = {2.0 / 25, 2.0 / 23, 2.0 / 21, 2.0 / 19, 2.0 / 17, 2.0 / 15,
                                 2.0 / 13, 2.0 / 11, 2.0 / 9,  2.0 / 7,  2.0 / 5,  2.0 / 3};
// ln 2 in two parts, the first with 21 trailing zero bits: exponent * kLn2High is exact.
constexpr double kLn2High = 0x1.62e42feep-1, kLn2Low = 0x1.a39ef35793c76p-33;

// 52 bits in (0, 1), symmetric about 1/2: never 0 or 1.
double open_uniform(uint32_t low, uint32_t high) {
  const uint64_t bits = (uint64_t{high} << 32 | low) >> 12;
  return (static_cast<double>(bits) + 0.5) * 0x1p-52;
}

double half_open_uniform(uint32_t low, uint32_t high) {
  return static_cast<double>((uint64_t{high} << 32 | low) >> 11) * 0x1p-53;
}

// Calls value(i, low word, high word) for elements begin .. begin + count - 1; element e owns words 2(e & 1)
// and 2(e & 1) + 1 of block e / 2.
template <class Value>
void for_each_pair(const Draws& draws, int64_t begin, int64_t count, const Value& value) {
  int64_t i = 0;
  if (count > 0 && (begin & 1)) {
    const PhiloxWords words = draws.block(static_cast<uint64_t>(begin) / 2);
    value(i++, words[2], words[3]);
  }
  for (; i + 1 < count; i += 2) {
    const PhiloxWords words = draws.block(static_cast<uint64_t>(begin + i) / 2);
    value(i, words[0], words[1]);
    value(i + 1, words[2], words[3]);
  }
  if (i < count) {
    const PhiloxWords words = draws.block(static_cast<uint64_t>(begin + i) / 2);
    value(i, words[0], words[1]);
  }
}

}  // namespace

double portable_log(double x) {
  uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  // x = m · 2^exponent with m in [sqrt(1/2), sqrt(2)): add what lifts sqrt(1/2) to 1, so that the exponent
  // carries.
  constexpr uint64_t kHalfRoot = 0x3FE6A09E667F3BCD, kOne = 0x3FF0000000000000;
  bits += kOne - kHalfRoot;
  const int exponent = static_cast<int>(bits >> 52) - 1023;
  bits = (bits & 0x000FFFFFFFFFFFFF) + kHalfRoot;
  double m;
  std::memcpy(&m, &bits, sizeof m);
  const double s = (m - 1.0) / (m + 1.0);
  const double square = s * s;
  const double correction = s * square * polynomial(kLogSeries, square);
  return exponent * kLn2High + (2.0 * s + (correction + exponent * kLn2Low));
}

double normal_quantile(double p) {
  const double q = p - 0.5;
  if (std::fabs(q) <= 0.425) {
    const double r = 0.180625 - q * q;
    return q * polynomial(kCentreTop, r) / polynomial(kCentreBottom, r);
  }
  double r = std::sqrt(-portable_log(q < 0 ? p : 1.0 - p));
  double z;
  if (r <= 5.0) {
    r -= 1.6;
    z = polynomial(kTailTop, r) / polynomial(kTailBottom, r);
  } else {
    r -= 5.0;
    z = polynomial(kFarTop, r) / polynomial(kFarBottom, r);
  }
  return q < 0 ? -z : z;
}

void fill_normal(const Draws& draws, double mean, double deviation, int64_t begin, int64_t count,
                 float* out) {
  for_each_pair(draws, begin, count, [&](int64_t i, uint32_t low, uint32_t high) {
    out[i] = static_cast<float>(mean + deviation * normal_quantile(open_uniform(low, high)));
  });
}

void fill_uniform(const Draws& draws, double low_end, double high_end, int64_t begin, int64_t count,
                  float* out) {
  const double width = high_end - low_end;
  for_each_pair(draws, begin, count, [&](int64_t i, uint32_t low, uint32_t high) {
    out[i] = static_cast<float>(low_end + width * half_open_uniform(low, high));
  });
}

int64_t fill_bernoulli_mask(const Draws& draws, double density, int64_t begin, int64_t end, uint8_t* bits) {
  if (begin % kMaskAlignment != 0)
    fail("[mask] a range starts at a multiple of 8, got %lld.", (long long)begin);
  // U < density with U = k / 2^53 is k < density · 2^53, an exact product.
  const uint64_t bound = static_cast<uint64_t>(std::ceil(density * 0x1p53));
  int64_t ones = 0;
  for (int64_t first = begin; first < end; first += 8) {
    const int64_t count = end - first < 8 ? end - first : 8;
    unsigned byte = 0;
    for_each_pair(draws, first, count, [&](int64_t i, uint32_t low, uint32_t high) {
      const unsigned kept = (uint64_t{high} << 32 | low) >> 11 < bound;
      byte |= kept << i;
      ones += kept;
    });
    bits[first >> 3] = static_cast<uint8_t>(byte);
  }
  return ones;
}

void fill_exact_mask(Draws draws, int64_t keep, int64_t numel, uint8_t* bits) {
  if (keep < 0 || keep > numel || numel > INT64_C(0xFFFFFFFF)) {
    fail("[mask] expected 0 <= keep <= numel < 2^32, got keep %lld of %lld.", (long long)keep,
         (long long)numel);
  }
  std::memset(bits, 0, static_cast<size_t>((numel + 7) / 8));
  // Element i is kept with probability (still to keep) / (elements left): every subset is equally likely.
  int64_t wanted = keep;
  for (int64_t i = 0; wanted > 0; i++) {
    const int64_t left = numel - i;
    if (wanted == left || draws.below(static_cast<uint32_t>(left)) < static_cast<uint64_t>(wanted)) {
      bits[i >> 3] = static_cast<uint8_t>(bits[i >> 3] | 1u << (i & 7));
      wanted--;
    }
  }
}

void fill_permutation(Draws draws, uint32_t n, uint32_t* out) {
  for (uint32_t i = 0; i < n; i++) {
    const uint32_t other = draws.below(i + 1);
    if (other != i) out[i] = out[other];
    out[other] = i;
  }
}

}  // namespace rp
