// Our nftables table: its text, its elements, and how it is put into the kernel.
#include "network/firewall.hpp"

#include <algorithm>
#include <cctype>

#include "base/strings.hpp"
#include "linux/spawn.hpp"
#include "network/local_relay.hpp"
#include "network/port_reservations.hpp"

namespace caisson::network {
namespace {

constexpr int program_timeout_ms = 20000;

// {table} and {admission} are filled in. nft needs a newline after a chain's last rule. What differs between networks stands in sets, so
// that one more network or port is an element more and no rule is ever rewritten.
constexpr std::string_view ruleset_template = R"(table inet {table} {}
delete table inet {table}
table inet {table} {
  # Our bridges; those whose containers may speak to each other, as pairs; those without a way out; their addresses; and the addresses that
  # leave under the host's.
  set bridges { type ifname; }
  set talking { type ifname . ifname; }
  set internal { type ifname; }
  set subnets { type ipv4_addr; flags interval; }
  set subnets6 { type ipv6_addr; flags interval; }
  set masqueraded { type ipv4_addr; flags interval; }
  set masqueraded6 { type ipv6_addr; flags interval; }

  # Published on every address of the host, and on one address.
  map published { type inet_proto . inet_service : ipv4_addr . inet_service; }
  map published_on { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
  map published6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
  map published6_on { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }

  # route_localnet on the bridge lets 127.0.0.1 reach containers; the way back must not lead from containers to services
  # that listen on 127.0.0.1 because they trust the host. Before connection tracking, so that answers to translated
  # connections (which carry the bridge's address here) pass.
  chain guard {
    type filter hook prerouting priority raw; policy accept;
    iifname @bridges ip daddr 127.0.0.0/8 counter drop
  }

  # Not [::1]: the kernel sends nothing from it out of another interface, so a translation there would only swallow the connection.
  chain publish {
    meta nfproto ipv4 dnat ip to ip daddr . meta l4proto . th dport map @published_on
    meta nfproto ipv4 dnat ip to meta l4proto . th dport map @published
    ip6 daddr ::1 return
    meta nfproto ipv6 dnat ip6 to ip6 daddr . meta l4proto . th dport map @published6_on
    meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @published6
  }
  chain incoming {
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local meta l4proto { tcp, udp, sctp } jump publish
  }
  chain local {
    type nat hook output priority -100; policy accept;
    fib daddr type local meta l4proto { tcp, udp, sctp } jump publish
  }

  chain outgoing {
    type nat hook postrouting priority srcnat; policy accept;
    # To the outside under the host's address.
    oifname != @bridges ip saddr @masqueraded masquerade
    oifname != @bridges ip6 saddr @masqueraded6 masquerade
    # A container that reaches a published port through the host (its own too): the answer must come back through us.
    oifname @bridges ct status dnat ip saddr @subnets masquerade
    oifname @bridges ct status dnat ip6 saddr @subnets6 masquerade
    # The host itself through 127.0.0.1.
    oifname @bridges ip saddr 127.0.0.0/8 masquerade
  }

{relays}  # Who may open a published port; the host's own connections are not forwarded and never come here.
  chain admission {
{admission}  }

  # Into a bridge: answers, published ports, and container to container (seen here when br_netfilter is loaded).
  # Nothing else: not from another bridge, and not when another host routes to a subnet through us.
  chain forwarding {
    type filter hook forward priority filter; policy accept;
    iifname != @bridges oifname != @bridges accept
    ct state established,related accept
    iifname . oifname @talking accept
    iifname @internal counter drop
    oifname @internal counter drop
    oifname @bridges ct status dnat jump admission
    oifname @bridges counter drop
  }
}
)";

std::string quoted_list(const std::vector<std::string>& names) {
  std::string list;
  for (const auto& name : names) list += concat(list.empty() ? "\"" : ", \"", name, "\"");
  return list;
}

std::string admission_text(const PortPolicy& policy) {
  if (!policy.is_declared()) return "    accept\n";
  std::vector<std::string> sources;
  std::vector<std::string> sources6;
  for (const auto& source : policy.allowed_sources) (source.find(':') == std::string::npos ? sources : sources6).push_back(source);
  std::string text = "    iifname @bridges accept\n";
  if (!sources.empty()) text += concat("    ip saddr { ", join(sources, ", "), " } accept\n");
  if (!sources6.empty()) text += concat("    ip6 saddr { ", join(sources6, ", "), " } accept\n");
  if (!policy.allowed_interfaces.empty()) text += concat("    iifname { ", quoted_list(policy.allowed_interfaces), " } accept\n");
  return text + "    counter drop\n";
}

/// The answers to what a relay says under its client's address are for us, not for the way out to the client.
std::string relays_text() {
  return concat("  chain relayed {\n    type filter hook output priority mangle; policy accept;\n    meta mark ", relay_mark, " ct mark set ", answer_mark,
                "\n  }\n  chain answered {\n    type filter hook prerouting priority mangle; policy accept;\n    ct direction reply ct mark ", answer_mark,
                " meta mark set ct mark\n  }\n\n");
}

/// One line per set that knows the bridge.
std::string bridge_text(std::string_view verb, const std::string& table, const BridgeRules& rules) {
  std::string text;
  auto line = [&](std::string_view set, const std::string& element) { text += concat(verb, " element inet ", table, " ", set, " { ", element, " }\n"); };
  const std::string name = concat("\"", rules.bridge, "\"");
  line("bridges", name);
  if (!rules.isolates_containers) line("talking", concat(name, " . ", name));
  if (rules.internal) line("internal", name);
  line("subnets", linux::to_string(rules.subnet));
  if (rules.subnet6) line("subnets6", linux::to_string(*rules.subnet6));
  if (rules.internal || rules.keeps_source) return text;
  line("masqueraded", linux::to_string(rules.subnet));
  if (rules.subnet6) line("masqueraded6", linux::to_string(*rules.subnet6));
  return text;
}

std::uint8_t number_of(Protocol protocol) {
  switch (protocol) {
    case Protocol::tcp: return 6;
    case Protocol::udp: return 17;
    case Protocol::sctp: return 132;
  }
  return 0;
}

void add_element_lines(std::string& text, const std::string& table, const PublishedPort& port) {
  const PortBinding& binding = port.binding;
  auto addresses = host_addresses(binding, port.container6.has_value());
  if (!addresses) return;  // refused when it was asked for
  const std::string key = concat(to_string(binding.protocol), " . ", binding.host_port, " : ");
  auto line = [&](std::string_view map, const std::string& address, const std::string& container) {
    text += concat("add element inet ", table, " ", map, " { ", address, address.empty() ? "" : " . ", key, container, " . ", binding.container_port, " }\n");
  };
  if (addresses->ipv4) {
    const bool everywhere = addresses->ipv4->value == 0;
    line(everywhere ? "published" : "published_on", everywhere ? "" : linux::to_string(*addresses->ipv4), linux::to_string(port.container));
  }
  if (addresses->ipv6 && port.container6) {
    const bool everywhere = *addresses->ipv6 == linux::Ipv6{};
    line(everywhere ? "published6" : "published6_on", everywhere ? "" : linux::to_string(*addresses->ipv6), linux::to_string(*port.container6));
  }
}

Result<linux::ProgramOutput> run_nft(const std::vector<std::string>& arguments, std::string_view input = {}) {
  std::vector<std::string> argv = {"nft"};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  linux::RunOptions options;
  options.standard_input = input;
  options.timeout_ms = program_timeout_ms;
  auto output = linux::run_program(argv, options);
  if (!output && output.error().kind() == ErrorKind::not_found)
    return Error(ErrorKind::unavailable, "the program nft is not installed").with_hint("install the package nftables, or run containers with --network none or host");
  return output;
}

Status run_nft_script(std::string_view script) {
  auto output = TRY_PLAIN(run_nft({"-f", "-"}, script));
  if (output.status.exit_code() == 0) return {};
  std::string_view words = trim(output.standard_error);
  return Error(ErrorKind::io, concat("nft exited with ", output.status.exit_code(), ": ", words.substr(0, 500)));
}

bool is_name_character(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

}  // namespace

std::string ruleset_text(const FirewallPlan& plan, const std::vector<PublishedPort>& ports) {
  // Earlier builds had a table of family ip.
  std::string text = concat("table ip ", plan.table, " {}\ndelete table ip ", plan.table, "\n", replace_all(ruleset_template, "{table}", plan.table));
  text = replace_all(text, "{admission}", admission_text(plan.published));
  text = replace_all(text, "{relays}", plan.relays ? relays_text() : "");
  for (const auto& rules : plan.bridges) text += bridge_text("add", plan.table, rules);
  for (const auto& port : ports) add_element_lines(text, plan.table, port);
  return text;
}

std::string add_bridge_text(const std::string& table, const BridgeRules& rules) { return bridge_text("add", table, rules); }
std::string delete_bridge_text(const std::string& table, const BridgeRules& rules) { return bridge_text("delete", table, rules); }

std::vector<linux::NftElement> port_elements(const std::vector<PublishedPort>& ports) {
  std::vector<linux::NftElement> elements;
  for (const auto& port : ports) {
    const PortBinding& binding = port.binding;
    auto addresses = host_addresses(binding, port.container6.has_value());
    if (!addresses) continue;  // refused when it was asked for
    linux::NftElement element;
    element.what = concat("published port ", host_endpoint_text(binding), "/", to_string(binding.protocol));
    if (addresses->ipv4) {
      linux::NftElement one = element;
      one.map = addresses->ipv4->value == 0 ? "published" : "published_on";
      if (addresses->ipv4->value != 0) one.key.ipv4(addresses->ipv4->value);
      one.key.protocol(number_of(binding.protocol)).port(binding.host_port);
      one.value.ipv4(port.container.value).port(binding.container_port);
      elements.push_back(std::move(one));
    }
    if (addresses->ipv6 && port.container6) {
      const bool everywhere = *addresses->ipv6 == linux::Ipv6{};
      element.map = everywhere ? "published6" : "published6_on";
      if (!everywhere) element.key.ipv6(*addresses->ipv6);
      element.key.protocol(number_of(binding.protocol)).port(binding.host_port);
      element.value.ipv6(*port.container6).port(binding.container_port);
      elements.push_back(std::move(element));
    }
  }
  return elements;
}

bool is_allowed_source(const std::vector<std::string>& sources, const linux::SocketAddress& address) {
  const std::string text = address.text();
  std::string_view host = split_last(text, ':').before;
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  const auto ipv4 = linux::parse_ipv4(host);
  const auto ipv6 = linux::parse_ipv6(host);
  return std::any_of(sources.begin(), sources.end(), [&](const std::string& source) {
    if (ipv4.ok()) {
      auto prefix = linux::parse_ipv4_prefix(source);
      return prefix.ok() && prefix->contains(*ipv4);
    }
    auto prefix = linux::parse_ipv6_prefix(source);
    return ipv6.ok() && prefix.ok() && prefix->contains(*ipv6);
  });
}

Status check_table_name(std::string_view name) {
  bool plain = !name.empty() && name.size() <= 31 && std::isalpha(static_cast<unsigned char>(name.front())) != 0 &&
               std::all_of(name.begin(), name.end(), is_name_character);
  if (!plain) return Error(ErrorKind::invalid, concat("\"", name, "\" cannot be the name of an nftables table (letters, digits, \"_\"; a letter first)"));
  // Words of nft's grammar that may stand where a table's name does; the list of those a person might choose.
  static constexpr std::string_view keywords[] = {"fwd", "ip", "ip6", "inet", "arp", "bridge", "netdev", "table", "chain", "map", "set", "drop", "accept", "filter"};
  if (std::find(std::begin(keywords), std::end(keywords), name) != std::end(keywords))
    return Error(ErrorKind::invalid, concat("\"", name, "\" cannot be the name of our nftables table: it is a word of nft or a table of iptables"));
  return {};
}

Status check_interface_name(std::string_view name) {
  bool plain = !name.empty() && name.size() <= 15 && name != "." && name != ".." && name.front() != '-' &&
               std::all_of(name.begin(), name.end(), [](char c) { return is_name_character(c) || c == '-' || c == '.'; });
  if (!plain) return Error(ErrorKind::invalid, concat("\"", name, "\" cannot be the name of an interface (at most 15 letters, digits, \"_\", \"-\", \".\")"));
  return {};
}

Status check_port_policy(const PortPolicy& policy) {
  for (const auto& source : policy.allowed_sources) {
    const bool is_v6 = source.find(':') != std::string::npos;
    Status parsed;
    if (is_v6) {
      if (auto prefix = linux::parse_ipv6_prefix(source); !prefix) parsed = std::move(prefix).error();
    } else if (auto prefix = linux::parse_ipv4_prefix(source); !prefix) {
      parsed = std::move(prefix).error();
    }
    TRY(std::move(parsed), "allowed sources of published ports");
  }
  for (const auto& name : policy.allowed_interfaces) TRY(check_interface_name(name), "allowed interfaces of published ports");
  return {};
}

Status install_table(const FirewallPlan& plan, const std::vector<PublishedPort>& ports) {
  TRY(run_nft_script(ruleset_text(plan, ports)), concat("making nftables table ", plan.table));
  return {};
}

Status run_table_change(const std::string& table, const std::string& text) {
  TRY(run_nft_script(text), concat("changing nftables table ", table));
  return {};
}

Status remove_table(const std::string& table) {
  TRY(run_nft_script(concat("table inet ", table, " {}\ndelete table inet ", table, "\n")), concat("removing nftables table ", table));
  return {};
}

}  // namespace caisson::network
