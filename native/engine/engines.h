// The engines linked into the addon. Each is what an engine library would export as `rp_engine_entry`
// (RpEngineEntry): its table of functions, or null when it does not serve that version of the ABI.
#pragma once
#include "engine/engine_abi.h"

extern "C" {
const RpEngineApi* rp_reference_engine(uint32_t abi_version);  // float64, plain loops: the specification
const RpEngineApi* rp_cpu_engine(uint32_t abi_version);        // float32
}
