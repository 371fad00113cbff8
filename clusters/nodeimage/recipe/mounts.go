package recipe

import (
	"slices"
	"strings"
)

// mountsBelow picks the mount points below dir out of the lines of a mountinfo file, the innermost first.
func mountsBelow(lines []string, dir string) []string {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var points []string
	for _, line := range lines {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		if point := unescape.Replace(fields[4]); strings.HasPrefix(point, dir+"/") {
			points = append(points, point)
		}
	}
	slices.Reverse(points) // the table lists mounts in the order they were made
	return points
}
