// `npm run test:avx512`: the AVX-512 kernels on an x86-64 processor without its instructions. They are compiled on
// AVX2 from the same source with sixteen lanes in a vector (RP_EMULATED_AVX512, native/cpu/simd.h), which takes some
// minutes; results are those of the real ones, times mean nothing.
//
//   node scripts/test-avx512.mjs [vitest file filters]
import { buildVariant, testVariant } from './native-variant.mjs';

const filters = process.argv.slice(2);
const emulated = buildVariant('emulated', ['-DRP_EMULATE_AVX512=ON'], ['random_pruning']);
testVariant(emulated, filters.length > 0 ? filters : ['test/conformance']);
