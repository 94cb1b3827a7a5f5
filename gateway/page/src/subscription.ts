// What a subscription must look like so that it can be gone on with: the cursor of each event is asked for, under a name of the
// page's own, and the root field's `after` is a variable.
import {
  getNamedType, isInterfaceType, isObjectType, isUnionType, Kind, parse, parseType, print, valueFromASTUntyped,
  type DocumentNode, type FieldNode, type FragmentDefinitionNode, type GraphQLSchema, type OperationDefinitionNode, type SelectionSetNode,
} from "graphql";
import type { Asked } from "./graph";

const CURSOR = "weftCursor";
const KIND = "weftKind";
const AFTER = "weftAfter";

/** A subscription, ready to be sent again from any cursor. */
export interface Subscription extends Asked {
  query: string;
  variables: Record<string, unknown>;
  /** What the root field is called in answers. */
  root: string;
  /** The name of the variable that takes a cursor; null where the field takes none. */
  after: string | null;
}

/** What the page asked for besides, taken out of an event again. */
export interface Told {
  /** What the document asked for. */
  event: Record<string, unknown>;
  kind: string | null;
  cursor: string | null;
}

const operations = (document: DocumentNode) =>
  document.definitions.filter((one): one is OperationDefinitionNode => one.kind === Kind.OPERATION_DEFINITION);

/** The operation of a document that is meant; undefined where that is not clear, which the server then says. */
export function operationOf(document: DocumentNode, name?: string | null): OperationDefinitionNode | undefined {
  const all = operations(document);
  return name ? all.find((one) => one.name?.value === name) : all.length === 1 ? all[0] : undefined;
}

const fragments = (document: DocumentNode) =>
  document.definitions.filter((one): one is FragmentDefinitionNode => one.kind === Kind.FRAGMENT_DEFINITION);

function rootField(document: DocumentNode, selections: SelectionSetNode, seen = new Set<string>()): FieldNode | undefined {
  for (const selection of selections.selections) {
    if (selection.kind === Kind.FIELD) {
      if (selection.name.value !== "__typename") return selection;
      continue;
    }
    let inner: SelectionSetNode | undefined;
    if (selection.kind === Kind.INLINE_FRAGMENT) inner = selection.selectionSet;
    else if (!seen.has(selection.name.value)) {
      seen.add(selection.name.value);
      inner = fragments(document).find(({ name }) => name.value === selection.name.value)?.selectionSet;
    }
    const field = inner && rootField(document, inner, seen);
    if (field) return field;
  }
  return undefined;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
const named = (value: string) => ({ kind: Kind.NAME as const, value });
const aliased = (alias: string, field: string): FieldNode => ({ kind: Kind.FIELD, alias: named(alias), name: named(field) });

/**
 * Makes a subscription of what is asked. Without a schema it is sent as it is, and can be gone on with where it has `cursor` and a
 * variable for `after` by itself. Throws for a document that is none.
 */
export function prepare(asked: Asked, schema?: GraphQLSchema | null): Subscription {
  const document = parse(asked.query, { noLocation: true });
  const operation = operationOf(document, asked.operationName) as Mutable<OperationDefinitionNode> | undefined;
  const field = operation && (rootField(document, operation.selectionSet) as Mutable<FieldNode> | undefined);
  const variables = { ...asked.variables };
  if (!operation || !field) return { ...asked, variables, root: "", after: null };
  const definition = schema?.getSubscriptionType()?.getFields()[field.name.value];

  const given = field.arguments?.find(({ name }) => name.value === "after");
  let after = given?.value.kind === Kind.VARIABLE ? given.value.name.value : null;
  const argument = definition?.args.find(({ name }) => name === "after");
  if (!after && argument) {
    after = AFTER;
    if (given) variables[AFTER] = valueFromASTUntyped(given.value);
    const variable = { kind: Kind.VARIABLE as const, name: named(AFTER) };
    const type = parseType(String(argument.type), { noLocation: true });
    operation.variableDefinitions = [...(operation.variableDefinitions ?? []), { kind: Kind.VARIABLE_DEFINITION, variable, type }];
    field.arguments = [...(field.arguments ?? []).filter((one) => one !== given), { kind: Kind.ARGUMENT, name: named("after"), value: variable }];
  }

  const type = definition && getNamedType(definition.type);
  if (field.selectionSet && (isObjectType(type) || isInterfaceType(type) || isUnionType(type))) {
    const more = [aliased(KIND, "__typename")];
    if (!isUnionType(type) && type.getFields().cursor) more.push(aliased(CURSOR, "cursor"));
    field.selectionSet = { ...field.selectionSet, selections: [...field.selectionSet.selections, ...more] };
  }
  return { query: print(document), variables, operationName: asked.operationName, root: field.alias?.value ?? field.name.value, after };
}

/** Reads an event. */
export function read(subscription: Subscription, data: Record<string, unknown>): Told | null {
  const value = data[subscription.root];
  if (!value || typeof value !== "object") return null;
  const { [CURSOR]: cursor, [KIND]: kind, ...event } = value as Record<string, unknown>;
  const text = (one: unknown) => (typeof one === "string" ? one : null);
  return { event, cursor: text(cursor) ?? text(event.cursor), kind: text(kind) ?? text(event.__typename) };
}
