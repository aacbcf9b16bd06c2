#include "bindings/engine_info.h"

#include <string>
#include <vector>

#include "bindings/engine_session.h"
#include "bindings/session_values.h"
#include "cpu/features.h"
#include "cpu/threads.h"
#include "engine/registry.h"

namespace rp {
namespace {

// (engine name, model, config): {activations, parameters}
Napi::Value plan_memory(const Napi::CallbackInfo& info) {
  const EngineSession session(find_engine(info[0].As<Napi::String>()), info[1].As<Napi::Object>(),
                              info[2].As<Napi::Object>());
  return memory_result(info.Env(), session.plan_memory());
}

Napi::Value engines(const Napi::CallbackInfo& info) {
  const std::vector<std::string> names = engine_names();
  Napi::Array out = Napi::Array::New(info.Env());
  for (uint32_t i = 0; i < names.size(); i++) out.Set(i, names[i]);
  return out;
}

// {isas, isa, cores}: what the cpu engine finds.
Napi::Value cpu(const Napi::CallbackInfo& info) {
  Napi::Object out = Napi::Object::New(info.Env());
  const std::vector<Isa> isas = available_isas();
  Napi::Array names = Napi::Array::New(info.Env());
  for (uint32_t i = 0; i < isas.size(); i++) names.Set(i, isa_name(isas[i]));
  out.Set("isas", names);
  out.Set("isa", isa_name(cpu_isa()));
  out.Set("cores", available_cores());
  return out;
}

// Bytes outside of its heap that V8 has been told of in all; process.memoryUsage() counts array buffers
// alone.
Napi::Value external_memory(const Napi::CallbackInfo& info) {
  const int64_t bytes = Napi::MemoryManagement::AdjustExternalMemory(info.Env(), 0);
  return Napi::Number::New(info.Env(), static_cast<double>(bytes));
}

}  // namespace

void add_engine_info(Napi::Env env, Napi::Object session) {
  session.Set("planMemory", Napi::Function::New<plan_memory>(env, "planMemory"));
  session.Set("engines", Napi::Function::New<engines>(env, "engines"));
  session.Set("cpu", Napi::Function::New<cpu>(env, "cpu"));
  session.Set("externalMemory", Napi::Function::New<external_memory>(env, "externalMemory"));
}

}  // namespace rp
