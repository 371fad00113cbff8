module github.com/rebound-chaos/rebound/clusters/nodeimage

go 1.26.0

require golang.org/x/sys v0.47.0 // indirect
