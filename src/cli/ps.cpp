// ps.
#include "cli/ps.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <tuple>

#include "base/strings.hpp"
#include "cli/commands.hpp"
#include "cli/request.hpp"

namespace caisson::cli {

namespace {

constexpr std::int64_t second_ns = 1'000'000'000;

constexpr std::array columns = {
    Column{"ID", "CONTAINER ID"}, Column{"Names", "NAMES"}, Column{"Image", "IMAGE"}, Column{"Command", "COMMAND"}, Column{"CreatedAt", "CREATED AT"},
    Column{"RunningFor", "CREATED"}, Column{"Ports", "PORTS"}, Column{"State", "STATE"}, Column{"Status", "STATUS"}, Column{"Size", "SIZE"},
    Column{"Labels", "LABELS"}, Column{"Mounts", "MOUNTS"}, Column{"LocalVolumes", "LOCAL VOLUMES"}, Column{"Networks", "NETWORKS"},
    Column{"Platform", "PLATFORM"}, Column{"HealthStatus", "HEALTH"}, Column{"IPAddresses", "IP ADDRESSES"},
};

struct Port {
  std::string address;
  std::uint16_t inside = 0;
  std::uint16_t outside = 0;
  std::string protocol;
};

// Ports that stand together as "53-54/udp" or "0.0.0.0:80-82->80-82/tcp".
struct PortRun {
  std::string address;
  std::string protocol;
  std::uint16_t first = 0;
  std::uint16_t last = 0;
  [[nodiscard]] std::string text() const {
    std::string range = first == last ? concat(first) : concat(first, "-", last);
    std::string inside = concat(range, "/", protocol);
    return address.empty() ? inside : concat(host_port(address, range), "->", inside);
  }
  static std::string host_port(std::string_view address, std::string_view port) {
    return address.find(':') != std::string_view::npos ? concat("[", address, "]:", port) : concat(address, ":", port);
  }
};

Result<std::string> displayed_mounts(const JsonView& mounts, bool no_trunc, std::size_t& local_volumes) {
  std::vector<std::string> names;
  TRY_PLAIN(mounts.for_each_element([&](const JsonView& mount) -> Status {
    std::string name;
    std::string source;
    std::string driver;
    TRY_PLAIN(mount.read("Name", name));
    TRY_PLAIN(mount.read("Source", source));
    TRY_PLAIN(mount.read("Driver", driver));
    if (driver == "local") ++local_volumes;
    std::string shown = name.empty() ? source : name;
    names.push_back(no_trunc ? shown : ellipsis(shown, 15));
    return {};
  }));
  return join(names, ",");
}

Result<std::string> displayed_networks(const JsonView& container, std::string& addresses) {
  JsonView settings = TRY_PLAIN(container.at("NetworkSettings"));
  JsonView networks = TRY_PLAIN(settings.at("Networks"));
  std::vector<std::string> names;
  std::vector<std::string> pairs;
  TRY_PLAIN(networks.for_each_member([&](std::string_view name, const JsonView& endpoint) -> Status {
    std::string address;
    TRY_PLAIN(endpoint.read("IPAddress", address));
    names.emplace_back(name);
    if (!address.empty()) pairs.push_back(concat(name, ":", address));
    return {};
  }));
  addresses = join(pairs, ",");
  return join(names, ",");
}

Result<std::string> displayed_size(const JsonView& container) {
  std::uint64_t own = 0;
  std::uint64_t all = 0;
  TRY_PLAIN(container.read("SizeRw", own));
  TRY_PLAIN(container.read("SizeRootFs", all));
  return all > 0 ? concat(human_size(own), " (virtual ", human_size(all), ")") : human_size(own);
}

std::string health_of(std::string_view status) {
  auto open = status.rfind('(');
  if (open == std::string_view::npos) return "none";
  std::string_view inner = status.substr(open + 1, status.size() - open - 2);
  if (inner == "healthy" || inner == "unhealthy") return std::string(inner);
  return inner == "health: starting" ? "starting" : "none";
}

}  // namespace

std::span<const Column> container_columns() { return columns; }

std::string list_time(TimestampNs time) {
  std::string text = to_rfc3339(time);
  return concat(std::string_view(text).substr(0, 10), " ", std::string_view(text).substr(11, 8), " +0000 UTC");
}

std::string displayed_labels(const json::object& labels) {
  std::map<std::string, std::string> sorted;
  for (const auto& label : labels) sorted[std::string(label.key())] = label.value().is_string() ? std::string(label.value().get_string()) : "";
  std::vector<std::string> pairs;
  for (const auto& [key, value] : sorted) pairs.push_back(concat(key, "=", value));
  return join(pairs, ",");
}

Result<std::string> displayed_ports(const JsonView& list) {
  std::vector<Port> ports;
  TRY_PLAIN(list.for_each_element([&](const JsonView& item) -> Status {
    Port port;
    TRY_PLAIN(item.read("IP", port.address));
    TRY_PLAIN(item.read("PrivatePort", port.inside));
    TRY_PLAIN(item.read("PublicPort", port.outside));
    TRY_PLAIN(item.read("Type", port.protocol));
    ports.push_back(std::move(port));
    return {};
  }));
  auto key = [](const Port& port) { return std::tie(port.inside, port.address, port.outside, port.protocol); };
  std::sort(ports.begin(), ports.end(), [&](const Port& a, const Port& b) { return key(a) < key(b); });
  // docker's order: runs of unpublished or equally numbered ports first, then every mapping to another number by itself.
  std::vector<std::string> texts;
  std::vector<PortRun> runs;
  std::vector<std::string> mappings;
  for (const auto& port : ports) {
    if (!port.address.empty() && port.outside != port.inside) {
      mappings.push_back(concat(PortRun::host_port(port.address, concat(port.outside)), "->", port.inside, "/", port.protocol));
      continue;
    }
    auto run = std::find_if(runs.begin(), runs.end(), [&](const PortRun& other) { return other.address == port.address && other.protocol == port.protocol; });
    if (run == runs.end()) {
      runs.push_back({port.address, port.protocol, port.inside, port.inside});
    } else if (port.inside == run->last + 1) {
      run->last = port.inside;
    } else if (port.inside != run->last) {
      texts.push_back(run->text());
      run->first = run->last = port.inside;
    }
  }
  for (const auto& run : runs) texts.push_back(run.text());
  texts.insert(texts.end(), mappings.begin(), mappings.end());
  return join(texts, ", ");
}

Result<Row> container_row(const JsonView& container, TimestampNs now, bool no_trunc) {
  std::string id;
  std::string image;
  std::string image_id;
  std::string command;
  std::string state;
  std::string status;
  std::int64_t created = 0;
  std::vector<std::string> names;
  TRY_PLAIN(container.read("Id", id));
  TRY_PLAIN(container.read("Image", image));
  TRY_PLAIN(container.read("ImageID", image_id));
  TRY_PLAIN(container.read("Command", command));
  TRY_PLAIN(container.read("State", state));
  TRY_PLAIN(container.read("Status", status));
  TRY_PLAIN(container.read("Created", created));
  TRY_PLAIN(container.read("Names", names));
  Row row;
  std::vector<std::string> shown_names;
  for (const auto& name : names) {
    std::string_view plain = name.starts_with("/") ? std::string_view(name).substr(1) : std::string_view(name);
    if (no_trunc || plain.find('/') == std::string_view::npos) shown_names.emplace_back(plain);  // links are "/other/alias"
  }
  if (!no_trunc && image.starts_with("sha256:")) image = short_id(image);
  if (image.empty()) image = "<no image>";
  JsonView labels = TRY_PLAIN(container.at("Labels"));
  if (labels.is_set() && labels.raw().is_object()) row.labels = labels.raw().get_object();
  std::size_t local_volumes = 0;
  std::string addresses;
  JsonView ports = TRY_PLAIN(container.at("Ports"));
  JsonView mounts = TRY_PLAIN(container.at("Mounts"));
  json::object& fields = row.fields;
  fields["Command"] = to_text(json::string(no_trunc ? command : ellipsis(command, 20)));
  fields["CreatedAt"] = list_time(created * second_ns);
  fields["HealthStatus"] = health_of(status);
  fields["ID"] = no_trunc ? id : short_id(id);
  fields["Image"] = image;
  fields["Labels"] = displayed_labels(row.labels);
  fields["Mounts"] = TRY_PLAIN(displayed_mounts(mounts, no_trunc, local_volumes));
  fields["LocalVolumes"] = concat(local_volumes);
  fields["Names"] = join(shown_names, ",");
  fields["Networks"] = TRY_PLAIN(displayed_networks(container, addresses));
  fields["IPAddresses"] = addresses;
  fields["Platform"] = nullptr;  // told by newer daemons only
  fields["Ports"] = TRY_PLAIN(displayed_ports(ports));
  fields["RunningFor"] = concat(human_duration(now - created * second_ns), " ago");
  fields["Size"] = TRY_PLAIN(displayed_size(container));
  fields["State"] = state;
  fields["Status"] = status;
  return row;
}

Result<int> list_containers(Session& session, const Invocation& invocation) {
  std::string format(invocation.text("format"));
  bool size = invocation.flag("size") || format_mentions(format, "Size");
  std::int64_t last = invocation.flag("latest") ? 1 : invocation.integer("last");
  Query query;
  query.add_if(invocation.flag("all"), "all").add_if(last > 0, "limit", concat(last)).add_if(size, "size");
  query.add_filters(TRY_PLAIN(parse_filters(invocation.list("filter"))));
  auto answer = TRY_PLAIN(session.get("/containers/json" + query.text()));
  std::vector<Row> rows;
  TimestampNs now = now_ns();
  bool no_trunc = invocation.flag("no-trunc");
  TRY_PLAIN(JsonView(answer).for_each_element([&](const JsonView& container) -> Status {
    rows.push_back(TRY_PLAIN(container_row(container, now, no_trunc)));
    return {};
  }));
  ListFormat list;
  list.columns = columns;
  list.table = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
  if (invocation.flag("size")) list.table += "\t{{.Size}}";
  list.format = format;
  list.is_quiet = invocation.flag("quiet");
  list.quiet_field = "ID";
  TRY_PLAIN(print_list(session.out(), list, rows));
  return 0;
}

}  // namespace caisson::cli
