// Package library holds the scenario files that are shipped inside the program. It holds nothing else: reading them is
// left to the loader (scenarios.Types.Library), running them to the runner.
package library

import "embed"

// FS is the shipped files, one folder a family.
//
//go:embed */*.yaml
var FS embed.FS
