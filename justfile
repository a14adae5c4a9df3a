# The steps of `.ci/run`, which defines them. `just` alone runs all of them.
all:
    .ci/run

[private]
step name:
    .ci/run {{name}}

formatting: (step "formatting")
lints: (step "lints")
features: (step "features")
msrv: (step "msrv")
tests: (step "tests")
dependencies: (step "dependencies")
properties: (step "properties")
benchmarks: (step "benchmarks")
release: (step "release")
examples: (step "examples")
documentation: (step "documentation")
fuzz: (step "fuzz")
packages: (step "packages")
python: (step "python")
