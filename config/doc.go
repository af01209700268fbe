// Package config turns helenus.yaml, HELENUS_* environment variables and command-line flags into one validated tree
// with units. Later sources win: defaults, file, environment, flags. The result is immutable. Unknown keys are refused
// with the nearest known name, so that a typing error never silently means the default.
//
// Nothing but parsing and validation may come in: no sockets, no files besides the configuration file, and no package
// of the store. It is the only package that imports viper.
package config
