// The smallest program a container can run: what the runtimes are measured with.
int main(void) { return 0; }
