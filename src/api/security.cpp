// /caisson/v1/containers/{name}/security and …/learning: what holds a container back, and what it needs.
#include "api/handlers.hpp"
#include "api/json_out.hpp"
#include "base/strings.hpp"
#include "engine/learning.hpp"

namespace caisson::api {

namespace {

/// null where the moment is not known.
json::value time_or_null(TimestampNs time) { return time == 0 ? json::value(nullptr) : json::value(to_rfc3339(time)); }

json::object report_json(const engine::SecurityReport& report) {
  json::array mounts, refusals;
  for (const auto& mount : report.mounts)
    mounts.push_back(json::object{{"Destination", mount.destination}, {"Source", mount.source}, {"RW", mount.is_writable}, {"KeepsOwners", mount.keeps_owners}});
  for (const auto& refusal : report.refusals)
    refusals.push_back(json::object{{"By", refusal.by}, {"What", refusal.what}, {"Program", refusal.program}, {"Count", refusal.count},
                                    {"First", time_or_null(refusal.first)}, {"Last", time_or_null(refusal.last)}, {"Killed", refusal.is_fatal}});
  return {{"Id", report.id},
          {"Name", report.name},
          {"State", engine::to_string(report.state)},
          {"Pid", report.pid},
          {"Privileged", report.is_privileged},
          {"Capabilities", texts(report.capabilities)},
          {"WithoutDockers", texts(report.lost_capabilities)},
          {"CapabilitiesOfKernel", report.all_capabilities},
          {"NoNewPrivileges", report.no_new_privileges},
          {"Seccomp", json::object{{"Profile", report.seccomp}, {"Allowed", report.calls.allowed}, {"Conditional", report.calls.conditional},
                                   {"Refused", report.calls.refused}, {"LogsRefusals", report.logs_refusals}}},
          {"Label", report.label},
          {"Namespaces", text_map(report.namespaces)},
          {"FirstHostId", report.first_host_id},
          {"HostIds", report.host_ids},
          {"ReadonlyRootfs", report.is_root_read_only},
          {"MaskedPaths", texts(report.masked_paths)},
          {"ReadonlyPaths", texts(report.readonly_paths)},
          {"Mounts", std::move(mounts)},
          {"Devices", texts(report.devices)},
          {"Sysctls", text_map(report.sysctls)},
          {"Memory", report.memory_limit_bytes},
          {"PidsLimit", report.pids_limit},
          {"Refusals", std::move(refusals)},
          {"Gaps", texts(report.gaps)}};
}

json::object seen_json(const engine::Learned& learned) {
  return {{"Watching", learned.is_watching},
                      {"SawTheStart", learned.saw_the_start},
                      {"Calls", texts(learned.calls)},
                      {"RefusedCalls", texts(learned.refused)},
                      {"KnowsCapabilities", learned.knows_capabilities},
                      {"Capabilities", texts(learned.capabilities)},
                      {"LackingCapabilities", texts(learned.lacking_capabilities)},
                      {"MostProcesses", learned.most_processes},
                      {"MostMemory", learned.most_memory_bytes},
                      {"Lost", learned.lost}};
}

Result<json::object> learned_json(const engine::Learned& learned) {
  auto out = seen_json(learned);
  out["Written"] = texts(learned.written);
  out["Proposal"] = json::object{{"Seccomp", TRY_PLAIN(parse_json(engine::profile_text(learned.profile), "profile"))},
                                 {"CapDrop", json::array{"ALL"}},
                                 {"CapAdd", texts(learned.cap_add)},
                                 {"ReadonlyRootfs", learned.read_only},
                                 {"Tmpfs", texts(learned.tmpfs)},
                                 {"PidsLimit", learned.pids_limit},
                                 {"Memory", learned.memory_bytes}};
  return out;
}

}  // namespace

Status explain_container(Request& request) { return request.reply_json(200, report_json(TRY_PLAIN(request.engine.explain(request.caller, request.name)))); }

Status begin_learning(Request& request) {
  TRY_PLAIN(request.engine.begin_learning(request.caller, request.name));
  return request.reply_json(201, json::object{{"Id", request.name}});
}

Status show_learned(Request& request) { return request.reply_json(200, seen_json(TRY_PLAIN(request.engine.learned(request.caller, request.name)))); }

Status end_learning(Request& request) { return request.reply_json(200, TRY_PLAIN(learned_json(TRY_PLAIN(request.engine.end_learning(request.caller, request.name))))); }

}  // namespace caisson::api
