// A serial port for boards: 8 bits, no parity, one stop bit. An image is two bytes a value, a score four bytes, the
// lowest first. Scores wait for the line; the line does not wait for the core: send an image after the scores of
// the one before.
`default_nettype none

module snnc_uart #(
    parameter DIVIDER = 217    // cycles of a bit
) (
    input  wire        clk,
    input  wire        rst,
    input  wire        rx,
    output wire        tx,
    output reg  [15:0] m_tdata,
    output reg         m_tvalid,
    input  wire        m_tready,
    input  wire [31:0] s_tdata,
    input  wire        s_tvalid,
    output wire        s_tready
);
    localparam TW = $clog2(DIVIDER + 1);

    // Receiver: samples in the middle of a bit
    reg [2:0] line;
    reg [TW-1:0] rx_timer;
    reg [3:0] rx_bit;          // 0 idle, 1 start, 2 to 9 data, 10 stop
    reg [7:0] rx_byte;
    reg second;
    wire middle = rx_timer == 0;

    always @(posedge clk) begin
        line <= {line[1:0], rx};
        if (m_tvalid && m_tready) m_tvalid <= 0;
        if (rx_bit == 0) begin
            rx_timer <= TW'(DIVIDER / 2);
            if (!line[2]) rx_bit <= 1;
        end else if (!middle) rx_timer <= rx_timer - 1'b1;
        else begin
            rx_timer <= TW'(DIVIDER - 1);
            rx_bit <= rx_bit + 1'b1;
            if (rx_bit == 1 && line[2]) rx_bit <= 0; // too short for a start
            else if (rx_bit >= 2 && rx_bit <= 9) rx_byte <= {line[2], rx_byte[7:1]};
            else if (rx_bit == 10) begin
                rx_bit <= 0;
                second <= !second;
                if (!second) m_tdata[7:0] <= rx_byte;
                else begin
                    m_tdata[15:8] <= rx_byte;
                    m_tvalid <= 1;
                end
            end
        end
        if (rst) begin
            line <= 3'b111;
            rx_bit <= 0;
            second <= 0;
            m_tvalid <= 0;
        end
    end

    // Transmitter: four bytes with start and stop bits
    reg [39:0] shift;
    reg [5:0] left;
    reg [TW-1:0] tx_timer;

    assign tx = left == 0 || shift[0];
    assign s_tready = left == 0;

    always @(posedge clk) begin
        if (left == 0) begin
            if (s_tvalid) begin
                shift <= {1'b1, s_tdata[31:24], 1'b0, 1'b1, s_tdata[23:16], 1'b0,
                          1'b1, s_tdata[15:8], 1'b0, 1'b1, s_tdata[7:0], 1'b0};
                left <= 40;
                tx_timer <= TW'(DIVIDER - 1);
            end
        end else if (tx_timer != 0) tx_timer <= tx_timer - 1'b1;
        else begin
            shift <= {1'b1, shift[39:1]};
            left <= left - 1'b1;
            tx_timer <= TW'(DIVIDER - 1);
        end
        if (rst) left <= 0;
    end
endmodule

`default_nettype wire
