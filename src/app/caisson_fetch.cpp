// caisson-fetch: speaks to registries for caissond, without any right on this host. Not for people to call.
#include "fetch/fetch.hpp"

int main() { return caisson::fetch::fetch_main(); }
