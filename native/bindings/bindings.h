// What each binding file adds to the addon's exports. Only files in this folder include napi.h.
#pragma once
#include <napi.h>

namespace rp {

void register_random(Napi::Env, Napi::Object exports);   // Philox draws: masks, initial weights, permutations
void register_session(Napi::Env, Napi::Object exports);  // engines and sessions (engine/engine_abi.h)
void register_data(Napi::Env, Napi::Object exports);     // image sets and batch streams
void register_kernels(Napi::Env,
                      Napi::Object exports);  // the kernel lists, for conformance tests and benches

}  // namespace rp
