// Our nftables table: its text, its elements, and how it is put into the kernel.
#include "network/firewall.hpp"

#include <algorithm>
#include <cctype>

#include "base/strings.hpp"
#include "linux/spawn.hpp"
#include "network/port_reservations.hpp"

namespace caisson::network {
namespace {

constexpr int program_timeout_ms = 20000;
constexpr std::uint8_t tcp_number = 6;
constexpr std::uint8_t udp_number = 17;

// {table}, {bridge} and {subnet} are filled in. nft needs a newline after a chain's last rule.
constexpr std::string_view ruleset_template = R"(table ip {table} {}
delete table ip {table}
table ip {table} {
  # Published on every address of the host, and on one address.
  map published { type inet_proto . inet_service : ipv4_addr . inet_service; }
  map published_on { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }

  # route_localnet on the bridge lets 127.0.0.1 reach containers; the way back must not lead from containers to services
  # that listen on 127.0.0.1 because they trust the host. Before connection tracking, so that answers to translated
  # connections (which carry the bridge's address here) pass.
  chain guard {
    type filter hook prerouting priority raw; policy accept;
    iifname "{bridge}" ip daddr 127.0.0.0/8 counter drop
  }

  chain publish {
    dnat ip to ip daddr . meta l4proto . th dport map @published_on
    dnat ip to meta l4proto . th dport map @published
  }
  chain incoming {
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local meta l4proto { tcp, udp } jump publish
  }
  chain local {
    type nat hook output priority -100; policy accept;
    fib daddr type local meta l4proto { tcp, udp } jump publish
  }

  chain outgoing {
    type nat hook postrouting priority srcnat; policy accept;
    # To the outside under the host's address.
    oifname != "{bridge}" ip saddr {subnet} masquerade
    # A container that reaches a published port through the host (its own too): the answer must come back through us.
    oifname "{bridge}" ip saddr {subnet} ct status dnat masquerade
    # The host itself through 127.0.0.1.
    oifname "{bridge}" ip saddr 127.0.0.0/8 masquerade
  }

  # Into the bridge: answers, published ports, and container to container (seen here when br_netfilter is loaded).
  # Nothing else, even when another host routes to the subnet through us.
  chain forwarding {
    type filter hook forward priority filter; policy accept;
    oifname != "{bridge}" accept
    ct state established,related accept
    ct status dnat accept
    iifname "{bridge}" accept
    counter drop
  }
}
)";

std::string add_element_line(const FirewallPlan& plan, const PublishedPort& port) {
  const PortBinding& binding = port.binding;
  const bool everywhere = binding.host_ip.empty() || binding.host_ip == "0.0.0.0";
  return concat("add element ip ", plan.table, everywhere ? " published { " : concat(" published_on { ", binding.host_ip, " . "),
                binding.protocol == Protocol::tcp ? "tcp . " : "udp . ", binding.host_port, " : ", linux::to_string(port.container), " . ",
                binding.container_port, " }\n");
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
  std::string text = replace_all(ruleset_template, "{table}", plan.table);
  text = replace_all(text, "{bridge}", plan.bridge);
  text = replace_all(text, "{subnet}", linux::to_string(plan.subnet));
  for (const auto& port : ports) text += add_element_line(plan, port);
  return text;
}

std::vector<linux::NftElement> port_elements(const std::vector<PublishedPort>& ports) {
  std::vector<linux::NftElement> elements;
  for (const auto& port : ports) {
    const PortBinding& binding = port.binding;
    const std::uint8_t protocol = binding.protocol == Protocol::tcp ? tcp_number : udp_number;
    linux::NftElement element;
    linux::Ipv4 address = host_address(binding).value_or(linux::Ipv4{});
    element.map = address.value == 0 ? "published" : "published_on";
    if (address.value != 0) element.key.ipv4(address.value);
    element.key.protocol(protocol).port(binding.host_port);
    element.value.ipv4(port.container.value).port(binding.container_port);
    element.what = concat("published port ", host_endpoint_text(binding), binding.protocol == Protocol::tcp ? "/tcp" : "/udp");
    elements.push_back(std::move(element));
  }
  return elements;
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

Status install_table(const FirewallPlan& plan, const std::vector<PublishedPort>& ports) {
  TRY(run_nft_script(ruleset_text(plan, ports)), concat("making nftables table ", plan.table));
  return {};
}

Status remove_table(const FirewallPlan& plan) {
  TRY(run_nft_script(concat("table ip ", plan.table, " {}\ndelete table ip ", plan.table, "\n")), concat("removing nftables table ", plan.table));
  return {};
}

}  // namespace caisson::network
