// Command helenus is the one binary: `start` runs a node, `dev` a small cluster in one process, `sh` is a CQL shell,
// `status` shows the cluster, `bench` measures any CQL server, `version` says what this is.
//
// Only the parsing of command lines lives here.
package main
