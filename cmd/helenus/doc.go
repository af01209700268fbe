// Command helenus is the one binary: `start` runs a node, `dev` a small cluster in one process, `sh` is a CQL shell,
// `bench` measures any CQL server, `version` says what this is; the rest are the operator's commands,
// which ask the admin interface of a node.
//
// Only the parsing of command lines lives here.
package main
