// Package suite plays the shipped scenarios on a real cluster, as Ginkgo specs: one spec a scenario, calling the same
// runner.Run as the command does. Its tests need a container engine (`make test-real`) and carry the build tag
// "cluster".
package suite
