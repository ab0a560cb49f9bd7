// Folds 64 bytes at a time with PCLMULQDQ; short texts, ends and other processors are zlib's.
#include "image/crc32.hpp"

#include <zlib.h>

#include <array>
#include <limits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace caisson::image {

namespace {

std::uint32_t by_zlib(std::uint32_t sum, std::string_view bytes) {
  return static_cast<std::uint32_t>(::crc32_z(sum, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

#if defined(__x86_64__)

// A text is a polynomial over GF(2), and its CRC the remainder by P. 128 bits that stand n bits before others may be replaced by their product with
// x^n mod P, added to those others: the remainder stays. Bits are reflected: the first bit of a text is the lowest of its word and the highest power,
// so constants are reflected too, and one bit further up, because the product of two reflected words is one bit short
// (Gopal and others, "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel 2009).
constexpr std::uint64_t power_modulo_p(unsigned exponent) {
  std::uint32_t remainder = 1;
  for (; exponent > 0; --exponent) remainder = (remainder << 1U) ^ ((remainder >> 31U) != 0 ? 0x04c11db7U : 0U);
  std::uint64_t reflected = 0;
  for (unsigned bit = 0; bit < 32; ++bit) reflected |= static_cast<std::uint64_t>((remainder >> bit) & 1U) << (32U - bit);
  return reflected;
}

constexpr std::size_t stride_bytes = 64;

/// `far`: the low half for the earlier 64 bits of `value`, the high half for the later ones.
__attribute__((target("pclmul,sse2"))) inline __m128i fold(__m128i value, __m128i far, __m128i onto) {
  const __m128i earlier = _mm_clmulepi64_si128(value, far, 0x00);
  const __m128i later = _mm_clmulepi64_si128(value, far, 0x11);
  return _mm_xor_si128(_mm_xor_si128(earlier, later), onto);
}

__attribute__((target("pclmul,sse2"))) inline __m128i load(const char* at) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
}

/// `bytes`: one stride at least.
__attribute__((target("pclmul,sse2"))) std::uint32_t by_folding(std::uint32_t sum, std::string_view bytes) {
  const char* at = bytes.data();
  const char* const end = at + bytes.size();
  // The earlier half of 128 bits stands 64 bits further ahead than the later one; the reflected product adds 32.
  const __m128i four = _mm_set_epi64x(power_modulo_p(4 * 128 - 32), power_modulo_p(4 * 128 + 32));
  const __m128i one = _mm_set_epi64x(power_modulo_p(128 - 32), power_modulo_p(128 + 32));
  // A CRC begins with all ones and ends inverted; what came before is added to the first four bytes.
  __m128i a = _mm_xor_si128(load(at), _mm_cvtsi32_si128(static_cast<int>(~sum)));
  __m128i b = load(at + 16), c = load(at + 32), d = load(at + 48);
  for (at += stride_bytes; end - at >= static_cast<std::ptrdiff_t>(stride_bytes); at += stride_bytes) {
    a = fold(a, four, load(at));
    b = fold(b, four, load(at + 16));
    c = fold(c, four, load(at + 32));
    d = fold(d, four, load(at + 48));
  }
  const __m128i all = fold(fold(fold(a, one, b), one, c), one, d);
  std::array<char, 16> rest;
  _mm_storeu_si128(reinterpret_cast<__m128i*>(rest.data()), all);
  // The remainder of these sixteen bytes, from a register of zeros, is that of everything before.
  const auto register_of_zeros = std::numeric_limits<std::uint32_t>::max();
  return by_zlib(by_zlib(register_of_zeros, std::string_view(rest.data(), rest.size())),
                 std::string_view(at, static_cast<std::size_t>(end - at)));
}

bool can_fold() {
  static const bool can = __builtin_cpu_supports("pclmul") != 0;
  return can;
}

#endif

}  // namespace

std::uint32_t crc32_of(std::uint32_t sum, std::string_view bytes) {
#if defined(__x86_64__)
  constexpr std::size_t worth_it = 2 * stride_bytes;
  if (bytes.size() >= worth_it && can_fold()) return by_folding(sum, bytes);
#endif
  return by_zlib(sum, bytes);
}

}  // namespace caisson::image
