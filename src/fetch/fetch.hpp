// The fetch process: gives up its rights, then serves requests of the daemon until the daemon's end of the channel closes.
#pragma once

namespace caisson::fetch {

/// main() of caisson-fetch. Expects a unix stream socket as descriptor image::fetch_channel_fd.
int fetch_main();

}  // namespace caisson::fetch
