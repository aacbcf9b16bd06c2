// What can be asked without a session: engines, their memory, the machine.
#pragma once
#include "bindings/bindings.h"

namespace rp {

// Adds planMemory, engines, cpu and externalMemory to the addon's `session`.
void add_engine_info(Napi::Env, Napi::Object session);

}  // namespace rp
