import { graphql } from "relay-runtime";

graphql`
  query AgentsPageQuery($count: Int!, $cursor: Cursor) {
    ...AgentsPage_query @arguments(count: $count, cursor: $cursor)
  }
`;

graphql`
  fragment AgentsPage_query on Query
  @argumentDefinitions(count: { type: "Int", defaultValue: 2 }, cursor: { type: "Cursor" })
  @refetchable(queryName: "AgentsPageMoreQuery") {
    agents(first: $count, after: $cursor) @connection(key: "AgentsPage_agents") {
      edges {
        node {
          id
          ...AgentCard_agent
        }
      }
    }
  }
`;

graphql`
  fragment AgentCard_agent on Agent @refetchable(queryName: "AgentCardRefetchQuery") {
    id
    name
    description
  }
`;

graphql`
  mutation RenameAgentMutation($input: UpdateAgentInput!) {
    updateAgent(input: $input) {
      agent {
        ...AgentCard_agent
      }
      errors {
        code
      }
    }
  }
`;

graphql`
  subscription RunSubscription($runId: ID!, $after: Cursor) {
    runEvents(runId: $runId, after: $after) {
      __typename
      cursor
      ... on TextDelta {
        offset
        text
      }
      ... on MessageCompleted {
        message {
          id
          text
          status
        }
      }
    }
  }
`;
