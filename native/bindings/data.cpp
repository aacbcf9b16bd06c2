#include "bindings/bindings.h"

namespace rp {

void register_data(Napi::Env, Napi::Object) {}

}  // namespace rp
