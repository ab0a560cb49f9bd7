// The host's own chains on the forward hook: found, opened for the bridge with marked rules, and closed again.
#include <algorithm>
#include <array>

#include "base/json.hpp"
#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/spawn.hpp"
#include "network/firewall.hpp"

namespace caisson::network {
namespace {

Result<linux::ProgramOutput> run(const std::vector<std::string>& argv) {
  linux::RunOptions options;
  options.timeout_ms = 20000;
  return linux::run_program(argv, options);
}

Error program_error(const std::vector<std::string>& argv, const linux::ProgramOutput& output) {
  return Error(ErrorKind::io, concat(join(argv, " "), ": exit ", output.status.exit_code(), ": ", trim(output.standard_error).substr(0, 300)));
}

// --- chains of iptables --------------------------------------------------------------------------------------------

/// iptables owns these chains and cannot read foreign nft expressions in them, so its own program adds the rules.
std::vector<std::vector<std::string>> iptables_rules(const ForwardPlan& plan) {
  const std::vector<std::string> matches[] = {
      {"-i", plan.bridge},
      {"-o", plan.bridge, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"},
      {"-o", plan.bridge, "-m", "conntrack", "--ctstate", "DNAT"},
  };
  std::vector<std::vector<std::string>> rules;
  for (const auto& match : matches) {
    std::vector<std::string> rule = {"FORWARD"};
    rule.insert(rule.end(), match.begin(), match.end());
    rule.insert(rule.end(), {"-m", "comment", "--comment", plan.mark, "-j", "ACCEPT"});
    rules.push_back(std::move(rule));
  }
  return rules;
}

std::vector<std::string> iptables_command(const std::string& program, const char* verb, const std::vector<std::string>& rule) {
  std::vector<std::string> argv = {program, "-w", "10", verb};
  argv.insert(argv.end(), rule.begin(), rule.end());
  return argv;
}

/// "iptables", and "iptables-legacy" when the old kernel tables are in use (then the two may differ); the same for IPv6.
std::vector<std::string> iptables_programs(const ForwardPlan& plan) {
  std::vector<std::string> programs = {"iptables"};
  auto has_legacy_filter = [](const char* names) {
    auto tables = linux::read_file(names);
    return tables && tables->find("filter") != std::string::npos;
  };
  if (has_legacy_filter("/proc/net/ip_tables_names")) programs.emplace_back("iptables-legacy");
  if (!plan.ipv6) return programs;
  programs.emplace_back("ip6tables");
  if (has_legacy_filter("/proc/net/ip6_tables_names")) programs.emplace_back("ip6tables-legacy");
  return programs;
}

Result<bool> iptables_drops_forwarded(const std::string& program) {
  auto output = run({program, "-w", "10", "-S", "FORWARD"});
  if (!output && output.error().kind() == ErrorKind::not_found) return false;  // not installed: nobody uses such chains
  if (!output) return std::move(output).error();
  return output->status.exit_code() == 0 && output->standard_output.find("-P FORWARD DROP") != std::string::npos;
}

Status open_iptables_chain(const std::string& program, const ForwardPlan& plan) {
  for (const auto& rule : iptables_rules(plan)) {
    auto check = TRY_PLAIN(run(iptables_command(program, "-C", rule)));
    if (check.status.exit_code() == 0) continue;
    auto command = iptables_command(program, "-A", rule);
    auto output = TRY_PLAIN(run(command));
    if (output.status.exit_code() != 0) return program_error(command, output);
  }
  return {};
}

Status close_iptables_chain(const std::string& program, const ForwardPlan& plan) {
  for (const auto& rule : iptables_rules(plan)) {
    auto check = run(iptables_command(program, "-C", rule));
    if (!check && check.error().kind() == ErrorKind::not_found) return {};
    if (!check) return std::move(check).error();
    if (check->status.exit_code() != 0) continue;
    auto command = iptables_command(program, "-D", rule);
    auto output = TRY_PLAIN(run(command));
    if (output.status.exit_code() != 0) return program_error(command, output);
  }
  return {};
}

// --- chains of nft -------------------------------------------------------------------------------------------------

struct NftChain {
  std::string family;
  std::string table;
  std::string name;
  std::string hook;
  std::string policy;
};

Result<json::value> nft_json(const std::vector<std::string>& arguments) {
  std::vector<std::string> argv = {"nft", "-j"};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  auto output = TRY_PLAIN(run(argv));
  if (output.status.exit_code() != 0) return program_error(argv, output);
  return parse_json(output.standard_output, "output of nft");
}

Result<std::vector<NftChain>> forward_chains(const ForwardPlan& plan) {
  json::value document = TRY_PLAIN(nft_json({"list", "chains"}));
  std::vector<NftChain> chains;
  JsonView list = TRY_PLAIN(JsonView(document, "nft").at("nftables"));
  TRY_PLAIN(list.for_each_element([&](const JsonView& element) -> Status {
    JsonView view = TRY_PLAIN(element.at("chain"));
    NftChain chain;
    if (!view.is_set()) return {};
    TRY_PLAIN(view.read("family", chain.family));
    TRY_PLAIN(view.read("table", chain.table));
    TRY_PLAIN(view.read("name", chain.name));
    TRY_PLAIN(view.read("hook", chain.hook));
    TRY_PLAIN(view.read("policy", chain.policy));
    const bool of_iptables = chain.family != "inet" && chain.table == "filter" && chain.name == "FORWARD";
    const bool ours = chain.family == "inet" && chain.table == plan.table;
    const bool concerns_us = chain.family == "ip" || chain.family == "inet" || (chain.family == "ip6" && plan.ipv6);
    if (chain.hook == "forward" && concerns_us && !of_iptables && !ours) chains.push_back(chain);
    return {};
  }));
  return chains;
}

/// Handles of the rules that carry our mark.
Result<std::vector<std::int64_t>> marked_rules(const NftChain& chain, const std::string& wanted) {
  json::value document = TRY_PLAIN(nft_json({"-a", "list", "chain", chain.family, chain.table, chain.name}));
  std::vector<std::int64_t> handles;
  JsonView list = TRY_PLAIN(JsonView(document, "nft").at("nftables"));
  TRY_PLAIN(list.for_each_element([&](const JsonView& element) -> Status {
    JsonView view = TRY_PLAIN(element.at("rule"));
    if (!view.is_set()) return {};
    std::string comment;
    std::int64_t handle = 0;
    TRY_PLAIN(view.read("comment", comment));
    TRY_PLAIN(view.read("handle", handle));
    if (comment == wanted) handles.push_back(handle);
    return {};
  }));
  return handles;
}

Status open_nft_chain(const NftChain& chain, const ForwardPlan& plan) {
  auto present = TRY_PLAIN(marked_rules(chain, plan.mark));
  if (!present.empty()) return {};
  std::string script;
  const std::string matches[] = {concat("iifname \"", plan.bridge, "\""), concat("oifname \"", plan.bridge, "\" ct state established,related"),
                                 concat("oifname \"", plan.bridge, "\" ct status dnat")};
  for (const auto& match : matches)
    script += concat("add rule ", chain.family, " ", chain.table, " ", chain.name, " ", match, " accept comment \"", plan.mark, "\"\n");
  linux::RunOptions options;
  options.standard_input = script;
  options.timeout_ms = 20000;
  auto output = TRY_PLAIN(linux::run_program({"nft", "-f", "-"}, options));
  if (output.status.exit_code() != 0) return program_error({"nft", "-f", "-"}, output);
  return {};
}

Status close_nft_chain(const NftChain& chain, const ForwardPlan& plan) {
  auto handles = TRY_PLAIN(marked_rules(chain, plan.mark));
  for (std::int64_t handle : handles) {
    std::vector<std::string> argv = {"nft", "delete", "rule", chain.family, chain.table, chain.name, "handle", concat(handle)};
    auto output = TRY_PLAIN(run(argv));
    if (output.status.exit_code() != 0) return program_error(argv, output);
  }
  return {};
}

std::string sentence(std::string_view chain, const ForwardPlan& plan) {
  return concat("the host drops forwarded packets in ", chain, "; accepts for ", plan.bridge, " were added there, marked \"", plan.mark, "\"");
}

}  // namespace

Result<std::vector<std::string>> open_forward_chains(const ForwardPlan& plan) {
  std::vector<std::string> changes;
  for (const auto& program : iptables_programs(plan)) {
    if (!TRY(iptables_drops_forwarded(program), "looking at the host's FORWARD chain")) continue;
    TRY(open_iptables_chain(program, plan), "opening the host's FORWARD chain");
    changes.push_back(sentence(concat("the FORWARD chain of ", program), plan));
  }
  for (const auto& chain : TRY(forward_chains(plan), "looking at the host's nftables chains")) {
    if (chain.policy != "drop") continue;
    TRY(open_nft_chain(chain, plan), concat("opening chain ", chain.table, " ", chain.name));
    changes.push_back(sentence(concat("chain ", chain.family, " ", chain.table, " ", chain.name), plan));
  }
  return changes;
}

Status close_forward_chains(const ForwardPlan& plan) {
  for (const auto& program : iptables_programs(plan)) TRY(close_iptables_chain(program, plan), "closing the host's FORWARD chain");
  for (const auto& chain : TRY(forward_chains(plan), "looking at the host's nftables chains"))
    TRY(close_nft_chain(chain, plan), concat("closing chain ", chain.table, " ", chain.name));
  return {};
}

Result<std::vector<std::string>> dropping_forward_chains() {
  ForwardPlan every_table;  // without a name of our own: our tables have no chain with policy drop there
  every_table.ipv6 = true;
  std::vector<std::string> names;
  for (const auto& program : iptables_programs(every_table))
    if (TRY(iptables_drops_forwarded(program), "looking at the host's FORWARD chain")) names.push_back(concat("the FORWARD chain of ", program));
  for (const auto& chain : TRY(forward_chains(every_table), "looking at the host's nftables chains"))
    if (chain.policy == "drop") names.push_back(concat("chain ", chain.family, " ", chain.table, " ", chain.name));
  return names;
}

}  // namespace caisson::network
