// Networks.
#include <algorithm>
#include <array>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "cli/commands.hpp"
#include "cli/create_body.hpp"
#include "cli/listing.hpp"
#include "cli/prune.hpp"
#include "cli/ps.hpp"
#include "cli/request.hpp"
#include "linux/ipv6.hpp"
#include "linux/rtnetlink.hpp"

namespace caisson::cli {

namespace {

constexpr std::array network_columns = {
    Column{"ID", "NETWORK ID"}, Column{"Name", "NAME"}, Column{"Driver", "DRIVER"}, Column{"Scope", "SCOPE"}, Column{"IPv4", "IPV4"},
    Column{"IPv6", "IPV6"}, Column{"Internal", "INTERNAL"}, Column{"Labels", "LABELS"}, Column{"CreatedAt", "CREATED AT"},
};

Result<Row> network_row(const JsonView& network, bool no_trunc) {
  Row row;
  std::string id;
  TRY_PLAIN(network.read("Id", id));
  row.fields["ID"] = no_trunc ? id : short_id(id);
  for (std::string_view field : {"Name", "Driver", "Scope"}) {
    std::string text;
    TRY_PLAIN(network.read(field, text));
    row.fields[field] = text;
  }
  for (const auto& [field, key, otherwise] : {std::tuple("IPv4", "EnableIPv4", true), std::tuple("IPv6", "EnableIPv6", false), std::tuple("Internal", "Internal", false)}) {
    bool value = otherwise;
    TRY_PLAIN(network.read(key, value));
    row.fields[field] = value ? "true" : "false";
  }
  std::string created;
  TRY_PLAIN(network.read("Created", created));
  if (auto time = parse_rfc3339(created); time.ok()) created = list_time(*time);
  row.fields["CreatedAt"] = created;
  JsonView labels = TRY_PLAIN(network.at("Labels"));
  if (labels.is_set() && labels.raw().is_object()) row.labels = labels.raw().get_object();
  row.fields["Labels"] = displayed_labels(row.labels);
  return row;
}

Error bad(std::string text) { return {ErrorKind::invalid, std::move(text)}; }

/// One subnet with what belongs to it.
struct SubnetFlags {
  std::string subnet;
  std::string range;
  std::string gateway;
  json::object reserved;
};

/// Whether an address or a smaller subnet lies in `subnet`. What cannot be read lies nowhere; the daemon names it.
bool contains(const std::string& subnet, std::string_view inner) {
  const std::string address(split_once(inner, '/').before);
  if (auto prefix = linux::parse_ipv4_prefix(subnet); prefix.ok()) {
    auto parsed = linux::parse_ipv4(address);
    return parsed.ok() && prefix->contains(*parsed);
  }
  auto prefix = linux::parse_ipv6_prefix(subnet);
  auto parsed = linux::parse_ipv6(address);
  return prefix.ok() && parsed.ok() && prefix->contains(*parsed);
}

SubnetFlags* subnet_of(std::vector<SubnetFlags>& subnets, std::string_view inner) {
  auto found = std::find_if(subnets.begin(), subnets.end(), [&](const SubnetFlags& one) { return contains(one.subnet, inner); });
  return found == subnets.end() ? nullptr : &*found;
}

/// docker's grouping: each range, gateway and auxiliary address belongs to the subnet it lies in.
Result<json::array> group_subnets(const Invocation& invocation) {
  std::vector<SubnetFlags> subnets;
  for (const auto& subnet : invocation.list("subnet")) {
    if (subnet_of(subnets, subnet) != nullptr) return bad("multiple overlapping subnet configuration is not supported");
    subnets.push_back({subnet, "", "", {}});
  }
  for (const auto& range : invocation.list("ip-range")) {
    auto* subnet = subnet_of(subnets, range);
    if (subnet == nullptr) return bad(concat("no matching subnet for range ", range));
    if (!subnet->range.empty()) return bad(concat("cannot configure multiple ranges (", range, ", ", subnet->range, ") on the same subnet (", subnet->subnet, ")"));
    subnet->range = range;
  }
  for (const auto& gateway : invocation.list("gateway")) {
    auto* subnet = subnet_of(subnets, gateway);
    if (subnet == nullptr) return bad(concat("no matching subnet for gateway ", gateway));
    if (!subnet->gateway.empty())
      return bad(concat("cannot configure multiple gateways (", gateway, ", ", subnet->gateway, ") for the same subnet (", subnet->subnet, ")"));
    subnet->gateway = gateway;
  }
  for (const auto& entry : invocation.list("aux-address")) {
    const Halves halves = split_once(entry, '=');
    auto* subnet = subnet_of(subnets, halves.after);
    if (subnet == nullptr) return bad(concat("no matching subnet for aux-address ", halves.after));
    subnet->reserved[halves.before] = halves.after;
  }
  json::array configs;
  for (const auto& one : subnets) {
    json::object config{{"Subnet", one.subnet}};
    if (!one.range.empty()) config["IPRange"] = one.range;
    if (!one.gateway.empty()) config["Gateway"] = one.gateway;
    if (!one.reserved.empty()) config["AuxiliaryAddresses"] = one.reserved;
    configs.push_back(std::move(config));
  }
  return configs;
}

}  // namespace

Result<int> list_networks(Session& session, const Invocation& invocation) {
  Query query;
  query.add_filters(TRY_PLAIN(parse_filters(invocation.list("filter"))));
  auto answer = TRY_PLAIN(session.get("/networks" + query.text()));
  std::vector<Row> rows;
  TRY_PLAIN(JsonView(answer).for_each_element([&](const JsonView& network) -> Status {
    rows.push_back(TRY_PLAIN(network_row(network, invocation.flag("no-trunc"))));
    return {};
  }));
  sort_by_name(rows);
  ListFormat list;
  list.columns = network_columns;
  list.table = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";
  list.format = invocation.text("format");
  list.is_quiet = invocation.flag("quiet");
  list.quiet_field = "ID";
  TRY_PLAIN(print_list(session.out(), list, rows));
  return 0;
}

Result<int> create_network(Session& session, const Invocation& invocation) {
  if (!invocation.flag("ipv4")) return Error(ErrorKind::unsupported, "--ipv4=false: networks without IPv4 are not supported").with_hint("add IPv6 to it with --ipv6");
  json::object ipam{{"Driver", invocation.text("ipam-driver")}, {"Options", to_map(invocation.list("ipam-opt"))}, {"Config", TRY_PLAIN(group_subnets(invocation))}};
  json::object body{{"Name", invocation.word(0)},
                    {"Driver", invocation.text("driver")},
                    {"Scope", invocation.text("scope")},
                    {"IPAM", std::move(ipam)},
                    {"Internal", invocation.flag("internal")},
                    {"Attachable", invocation.flag("attachable")},
                    {"Ingress", invocation.flag("ingress")},
                    {"ConfigOnly", invocation.flag("config-only")},
                    {"ConfigFrom", nullptr},
                    {"Options", to_map(invocation.list("opt"))},
                    {"Labels", TRY_PLAIN(collect_labels({}, invocation.list("label")))}};
  if (invocation.has("ipv6")) body["EnableIPv6"] = invocation.flag("ipv6");
  if (invocation.has("config-from")) body["ConfigFrom"] = json::object{{"Network", invocation.text("config-from")}};
  json::value request(body);
  auto answer = TRY_PLAIN(session.post("/networks/create", &request));
  std::string id;
  TRY_PLAIN(JsonView(answer).read("Id", id));
  session.out().line(id);
  return 0;
}

Result<int> connect_network(Session& session, const Invocation& invocation) {
  json::object ipam;
  if (invocation.has("ip")) ipam["IPv4Address"] = invocation.text("ip");
  if (invocation.has("ip6")) ipam["IPv6Address"] = invocation.text("ip6");
  if (invocation.has("link-local-ip")) ipam["LinkLocalIPs"] = list_or_null(invocation.list("link-local-ip"));
  json::object endpoint{{"IPAMConfig", std::move(ipam)},
                        {"Links", list_or_null(invocation.list("link"))},
                        {"Aliases", list_or_null(invocation.list("alias"))},
                        {"DriverOpts", to_map(invocation.list("driver-opt"))}};
  if (invocation.has("gw-priority")) {
    const std::string text(invocation.text("gw-priority"));
    endpoint["GwPriority"] = TRY_PLAIN(parse_integer<std::int64_t>(text));
  }
  json::value request(json::object{{"Container", invocation.word(1)}, {"EndpointConfig", std::move(endpoint)}});
  TRY_PLAIN(session.post(object_path("networks", invocation.word(0), "connect"), &request));
  return 0;
}

Result<int> disconnect_network(Session& session, const Invocation& invocation) {
  json::value request(json::object{{"Container", invocation.word(1)}, {"Force", invocation.flag("force")}});
  TRY_PLAIN(session.post(object_path("networks", invocation.word(0), "disconnect"), &request));
  return 0;
}

Result<int> remove_networks(Session& session, const Invocation& invocation) {
  int code = 0;
  for (const auto& name : invocation.words()) {
    auto removed = session.call("DELETE", object_path("networks", name));
    if (removed.ok()) {
      session.out().line(name);
      continue;
    }
    // docker's -f: what is not there needs no removing.
    if (invocation.flag("force") && removed.error().kind() == ErrorKind::not_found) continue;
    TRY_PLAIN(session.out().flush());
    print_error(session, removed.error());
    code = 1;
  }
  return code;
}

Result<int> prune_networks(Session& session, const Invocation& invocation) {
  return prune(session, invocation.flag("force"), "This will remove all custom networks not used by at least one container.",
               {{"networks", TRY_PLAIN(parse_filters(invocation.list("filter")))}});
}

}  // namespace caisson::cli
