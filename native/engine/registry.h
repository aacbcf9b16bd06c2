// Engines by name, in one place: those linked into the addon, and (its own library, opened on demand) cuda.
#pragma once
#include <string>
#include <vector>

#include "engine/engine_abi.h"

namespace rp {

// The engine's functions. Throws rp::Error that says what is known, or why the engine cannot be had.
const RpEngineApi& find_engine(const std::string& name);

// Names that this build can serve.
std::vector<std::string> engine_names();

}  // namespace rp
