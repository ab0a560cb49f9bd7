// linux.netDevices: interfaces of the host move into the container, keep their addresses and come up there.
#include <algorithm>

#include "linux/process.hpp"
#include "linux/rtnetlink.hpp"
#include "runtime/launch.hpp"

namespace caisson::runtime::detail {

namespace {

struct Found {
  const PlanNetDevice* device = nullptr;
  std::uint32_t index = 0;
  std::vector<linux::LinkAddress> addresses;
};

std::string place(const PlanNetDevice& device) { return concat("linux.netDevices[\"", device.host_name, "\"]"); }

/// All of them are looked at before the first one moves: a device that is in the container already would not come back.
Result<std::vector<Found>> find_all(linux::NetlinkSocket& host, const std::vector<PlanNetDevice>& devices,
                                    const std::vector<linux::LinkInfo>& taken) {
  std::vector<Found> out;
  for (const auto& device : devices) {
    auto link = linux::find_link(host, device.host_name);
    if (!link && link.error().kind() == ErrorKind::not_found)
      return Error(ErrorKind::not_found, concat(place(device), ": the host has no such interface"));
    Found found;
    found.device = &device;
    found.index = TRY(std::move(link), place(device)).index;
    found.addresses = TRY(linux::list_global_addresses(host, found.index), place(device));
    if (std::any_of(taken.begin(), taken.end(), [&](const auto& other) { return other.name == device.name; }))
      return Error(ErrorKind::conflict, concat(place(device), ".name: the container has an interface \"", device.name, "\" already"));
    out.push_back(std::move(found));
  }
  return out;
}

Status move_one(linux::NetlinkSocket& host, linux::NetlinkSocket& inside, int netns, const Found& found) {
  auto before = TRY_PLAIN(linux::list_links(inside));
  linux::NetlinkBatch move;
  linux::move_link(move, found.index, netns, found.device->name);
  TRY_PLAIN(host.execute(move));
  // Its number may have changed, and with %d its name too: it is the one that was not there before.
  std::uint32_t index = 0;
  for (const auto& link : TRY_PLAIN(linux::list_links(inside)))
    if (std::none_of(before.begin(), before.end(), [&](const auto& old) { return old.index == link.index; })) index = link.index;
  if (index == 0) return Error(ErrorKind::internal, "the interface is not where it was moved to");
  linux::NetlinkBatch settle;
  for (const auto& address : found.addresses) linux::add_address(settle, index, address);
  linux::set_link_up(settle, index);
  return inside.execute(settle);
}

}  // namespace

Status move_net_devices(const std::vector<PlanNetDevice>& devices, pid_t pid) {
  if (devices.empty()) return {};
  auto netns = TRY(linux::open_namespace(pid, "net"), "linux.netDevices");
  auto host = TRY(linux::open_rtnetlink(), "linux.netDevices");
  auto inside = TRY(linux::open_rtnetlink_in(netns.get()), "linux.netDevices");
  auto taken = TRY(linux::list_links(inside), "linux.netDevices");
  for (const auto& found : TRY_PLAIN(find_all(host, devices, taken)))
    TRY(move_one(host, inside, netns.get(), found), place(*found.device));
  return {};
}

}  // namespace caisson::runtime::detail
